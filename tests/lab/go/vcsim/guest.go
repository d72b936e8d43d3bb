package main

import (
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// The states of VMware Tools that a test can give to a guest.
const (
	toolsRunning      = "running"
	toolsNotRunning   = "not_running"
	toolsNotInstalled = "not_installed"
)

// shutdownGuest answers ShutdownGuest as the guest's nature says.
func (l *lab) shutdownGuest(ctx *simulator.Context, vm *simulator.VirtualMachine) types.BaseMethodFault {
	var power types.VirtualMachinePowerState
	ctx.WithLock(vm, func() { power = vm.Runtime.PowerState })
	if power != types.VirtualMachinePowerStatePoweredOn {
		return &types.InvalidPowerState{
			RequestedState: types.VirtualMachinePowerStatePoweredOn,
			ExistingState:  power,
		}
	}
	m := l.machine(vm.Self)
	l.mu.Lock()
	nature, boot := m.guest, m.powerChanges
	l.mu.Unlock()
	if nature.Tools != toolsRunning {
		return &types.ToolsUnavailable{}
	}
	if nature.IgnoresShutdown {
		return nil
	}
	ref := vm.Self
	time.AfterFunc(seconds(nature.ShutdownSeconds), func() {
		l.mu.Lock()
		stale := m.powerChanges != boot
		l.mu.Unlock()
		if stale {
			return // somebody else was faster
		}
		if task, err := object.NewVirtualMachine(l.client, ref).PowerOff(adminContext()); err == nil {
			_ = task.Wait(adminContext())
		}
	})
	return nil
}

// powerWatch makes what is seen of a guest follow the power state of its VM.
type powerWatch struct{ lab *lab }

func (*powerWatch) Reference() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "LabPowerWatch", Value: "power-watch"}
}

func (*powerWatch) PutObject(*simulator.Context, mo.Reference)                    {}
func (*powerWatch) RemoveObject(*simulator.Context, types.ManagedObjectReference) {}

func (p *powerWatch) UpdateObject(
	ctx *simulator.Context, changed mo.Reference, changes []types.PropertyChange,
) {
	vm, ok := changed.(*mo.VirtualMachine)
	if !ok {
		return
	}
	for _, change := range changes {
		if power, is := change.Val.(types.VirtualMachinePowerState); is && change.Name == "runtime.powerState" {
			m := p.lab.machine(vm.Self)
			p.lab.mu.Lock()
			m.powerChanges++
			nature := m.guest
			p.lab.mu.Unlock()
			showGuest(ctx, vm, nature, power)
		}
	}
}

// showGuest sets the properties by which a client learns of the guest; the caller holds the VM's lock.
func showGuest(
	ctx *simulator.Context, vm mo.Reference, nature guestNature, power types.VirtualMachinePowerState,
) {
	status := types.VirtualMachineToolsStatusToolsNotRunning
	running := types.VirtualMachineToolsRunningStatusGuestToolsNotRunning
	version := types.VirtualMachineToolsVersionStatusGuestToolsCurrent
	state := types.VirtualMachineGuestStateNotRunning
	if nature.Tools == toolsNotInstalled {
		status = types.VirtualMachineToolsStatusToolsNotInstalled
		version = types.VirtualMachineToolsVersionStatusGuestToolsNotInstalled
	} else if nature.Tools == toolsRunning && power == types.VirtualMachinePowerStatePoweredOn {
		status = types.VirtualMachineToolsStatusToolsOk
		running = types.VirtualMachineToolsRunningStatusGuestToolsRunning
		state = types.VirtualMachineGuestStateRunning
	}
	ctx.Update(vm, []types.PropertyChange{
		{Name: "guest.toolsStatus", Val: status},
		{Name: "guest.toolsRunningStatus", Val: string(running)},
		{Name: "guest.toolsVersionStatus", Val: string(version)},
		{Name: "guest.toolsVersionStatus2", Val: string(version)},
		{Name: "guest.guestState", Val: string(state)},
		{Name: "summary.guest.toolsStatus", Val: status},
		{Name: "summary.guest.toolsRunningStatus", Val: string(running)},
		{Name: "summary.guest.toolsVersionStatus2", Val: string(version)},
	})
}
