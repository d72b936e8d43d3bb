package main

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// gateReference is where `handle` sends the calls on VMs that the gate answers in the simulator's stead.
var gateReference = types.ManagedObjectReference{Type: "LabGate", Value: "gate"}

// gateMethods are those calls.
var gateMethods = map[string]bool{
	"ExportVm":        true,
	"ShutdownGuest":   true,
	"PowerOnVM_Task":  true,
	"PowerOffVM_Task": true,
}

// gateServices are calls on services of which the gate knows more than the simulator.
var gateServices = map[string]bool{
	"HasPrivilegeOnEntities": true,
	"FindByUuid":             true,
}

// gate answers calls on any VM; the VM is the one that the request names.
type gate struct {
	// Never read, but FindByUuid panics on an object of the registry without an embedded managed object.
	mo.EnvironmentBrowser

	lab *lab
}

func newGate(l *lab) *gate {
	return &gate{EnvironmentBrowser: mo.EnvironmentBrowser{Self: gateReference}, lab: l}
}

// Lock and Unlock tell the simulator that the gate needs no lock: it takes that of the VM.
func (g *gate) Lock()   {}
func (g *gate) Unlock() {}

func (g *gate) vm(ctx *simulator.Context, ref types.ManagedObjectReference) *simulator.VirtualMachine {
	return ctx.Map.Get(ref).(*simulator.VirtualMachine) // `handle` has seen it
}

// ExportVm opens a lease on a VM that is off.
func (g *gate) ExportVm(ctx *simulator.Context, request *types.ExportVm) soap.HasFault {
	body := new(methods.ExportVmBody)
	opened, fault := g.lab.openLease(ctx, g.vm(ctx, request.This))
	if fault != nil {
		body.Fault_ = simulator.Fault("", fault)
		return body
	}
	body.Res = &types.ExportVmResponse{Returnval: opened.Self}
	return body
}

// ShutdownGuest asks the guest, which obeys after a while, or never.
func (g *gate) ShutdownGuest(ctx *simulator.Context, request *types.ShutdownGuest) soap.HasFault {
	body := new(methods.ShutdownGuestBody)
	if fault := g.lab.shutdownGuest(ctx, g.vm(ctx, request.This)); fault != nil {
		body.Fault_ = simulator.Fault("", fault)
		return body
	}
	body.Res = new(types.ShutdownGuestResponse)
	return body
}

// PowerOnVMTask is the simulator's, unless the task is to fail.
func (g *gate) PowerOnVMTask(ctx *simulator.Context, request *types.PowerOnVM_Task) soap.HasFault {
	vm := g.vm(ctx, request.This)
	if task := g.failedTask(ctx, vm, "PowerOnVM_Task", "powerOn"); task != nil {
		return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: *task}}
	}
	return vm.PowerOnVMTask(ctx, request)
}

// PowerOffVMTask is the simulator's, unless the task is to fail.
func (g *gate) PowerOffVMTask(ctx *simulator.Context, request *types.PowerOffVM_Task) soap.HasFault {
	vm := g.vm(ctx, request.This)
	if task := g.failedTask(ctx, vm, "PowerOffVM_Task", "powerOff"); task != nil {
		return &methods.PowerOffVM_TaskBody{Res: &types.PowerOffVM_TaskResponse{Returnval: *task}}
	}
	return vm.PowerOffVMTask(ctx, request)
}

func (g *gate) failedTask(
	ctx *simulator.Context, vm *simulator.VirtualMachine, method, name string,
) *types.ManagedObjectReference {
	fault := g.lab.faults.failTask(method, vm.Self.Value, vm.Name)
	if fault == nil {
		return nil
	}
	run := func(*simulator.Task) (types.AnyType, types.BaseMethodFault) { return nil, fault }
	ref := simulator.CreateTask(vm, name, run).Run(ctx)
	return &ref
}
