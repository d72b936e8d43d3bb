module github.com/harvester/vm-import-controller-lab/reader

go 1.24
