package main

import (
	"sort"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// labState is what GET /state shows.
type labState struct {
	VMs           []vmState      `json:"vms"`
	Leases        []leaseState   `json:"leases"`
	Sessions      int            `json:"sessions"`
	Logins        int            `json:"logins"`
	RefusedLogins int            `json:"refused_logins"`
	Calls         map[string]int `json:"calls"`
}

type vmState struct {
	Name       string         `json:"name"`
	MoRef      string         `json:"moref"`
	Path       string         `json:"path"`
	PowerState string         `json:"power_state"`
	Snapshots  int            `json:"snapshots"`
	Leased     bool           `json:"leased"`
	Calls      map[string]int `json:"calls"` // calls of clients on this VM, by method
	Disks      []diskRecord   `json:"disks"`
	guestNature
}

type leaseState struct {
	VM       string `json:"vm"`
	State    string `json:"state"`
	TimedOut bool   `json:"timed_out"`
	Percent  int32  `json:"percent"`
}

func (l *lab) state() labState {
	result := labState{VMs: []vmState{}, Leases: []leaseState{}, Sessions: len(l.sessions())}
	for _, entity := range l.model.Map().All("VirtualMachine") {
		result.VMs = append(result.VMs, l.vmState(entity.(*simulator.VirtualMachine)))
	}
	sort.Slice(result.VMs, func(i, j int) bool { return result.VMs[i].Path < result.VMs[j].Path })

	l.mu.Lock()
	defer l.mu.Unlock()
	result.Logins, result.RefusedLogins = l.logins, l.refused
	result.Calls = copied(l.calls)
	for _, s := range l.leases {
		result.Leases = append(result.Leases, leaseState{
			VM: s.vmName, State: string(s.state), TimedOut: s.timedOut, Percent: s.percent,
		})
	}
	return result
}

func (l *lab) vmState(vm *simulator.VirtualMachine) vmState {
	m := l.machine(vm.Self)
	shown := vmState{MoRef: vm.Self.Value, Path: l.inventoryPath(vm), Leased: l.leaseOf(vm.Self) != nil}
	ctx := l.background()
	ctx.WithLock(vm, func() {
		shown.Name = vm.Name
		shown.PowerState = string(vm.Runtime.PowerState)
		if vm.Snapshot != nil {
			shown.Snapshots = countSnapshots(vm.Snapshot.RootSnapshotList)
		}
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	shown.guestNature = m.guest
	shown.Calls = copied(m.calls)
	shown.Disks = []diskRecord{}
	for _, disk := range m.disks {
		shown.Disks = append(shown.Disks, *disk)
	}
	sort.Slice(shown.Disks, func(i, j int) bool { return shown.Disks[i].Key < shown.Disks[j].Key })
	return shown
}

// sessions lists those of clients. The simulator shows them in a session's view of its SessionManager only.
func (l *lab) sessions() []types.UserSession {
	registry := l.model.Map()
	view := &simulator.Session{Registry: simulator.NewRegistry(), Map: registry}
	return view.Get(registry.SessionManager().Self).(*simulator.SessionManager).SessionList
}

func (l *lab) inventoryPath(entity mo.Entity) string {
	path := ""
	for entity.Entity().Parent != nil { // the root folder has no name in a path
		path = "/" + entity.Entity().Name + path
		parent, ok := l.model.Map().Get(*entity.Entity().Parent).(mo.Entity)
		if !ok {
			break
		}
		entity = parent
	}
	return path
}

func countSnapshots(trees []types.VirtualMachineSnapshotTree) int {
	count := len(trees)
	for _, tree := range trees {
		count += countSnapshots(tree.ChildSnapshotList)
	}
	return count
}

func copied(counts map[string]int) map[string]int {
	result := make(map[string]int, len(counts))
	for key, value := range counts {
		result[key] = value
	}
	return result
}
