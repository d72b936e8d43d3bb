module github.com/harvester/vm-import-controller-lab/vcsim

go 1.24

require (
	github.com/google/uuid v1.6.0
	github.com/vmware/govmomi v0.52.0
)
