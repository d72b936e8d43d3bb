package main

import (
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// obstacles are what may be the matter with a VM when somebody wants to export it.
type obstacles struct {
	Template            bool     `json:"template"`
	FaultTolerance      bool     `json:"fault_tolerance"`
	Question            string   `json:"question"` // the text of a question that waits for an answer
	ConsolidationNeeded bool     `json:"consolidation_needed"`
	Inaccessible        bool     `json:"inaccessible"`
	EncryptedHome       bool     `json:"encrypted_home"`
	HotAdd              bool     `json:"hot_add"` // of CPUs and of memory
	Passthrough         bool     `json:"passthrough"`
	USB                 bool     `json:"usb"`
	DeniedPrivileges    []string `json:"denied_privileges"` // that the account lacks on this VM
}

// privilegeOf names what a call needs. (vSphere API reference, "Required Privileges")
var privilegeOf = map[string]string{
	"ExportVm":        "VApp.Export",
	"ShutdownGuest":   "VirtualMachine.Interact.PowerOff",
	"PowerOffVM_Task": "VirtualMachine.Interact.PowerOff",
	"PowerOnVM_Task":  "VirtualMachine.Interact.PowerOn",
}

// addObstacles puts the devices into the VM that nothing else in it depends on.
func (b *deviceBuilder) addObstacles(spec *obstacles) {
	if spec.Passthrough {
		backing := &types.VirtualPCIPassthroughDeviceBackingInfo{Id: "0000:3b:00.0", DeviceId: "1eb8", VendorId: 0x10de}
		b.list = append(b.list, &types.VirtualPCIPassthrough{VirtualDevice: types.VirtualDevice{
			Key: 13000, ControllerKey: pciKey, Backing: backing,
		}})
	}
	if spec.USB {
		b.list = append(b.list, &types.VirtualUSB{VirtualDevice: types.VirtualDevice{
			Key: 8000, Backing: &types.VirtualUSBUSBBackingInfo{},
		}})
	}
}

// obstruct sets what the simulator has no call for. It comes last: some of it forbids every further change.
func (l *lab) obstruct(vm *simulator.VirtualMachine, spec *obstacles) error {
	m := l.machine(vm.Self)
	l.mu.Lock()
	m.denied = spec.DeniedPrivileges
	l.mu.Unlock()
	if spec.Template {
		if err := object.NewVirtualMachine(l.client, vm.Self).MarkAsTemplate(adminContext()); err != nil {
			return err
		}
	}
	ctx := l.background()
	ctx.WithLock(vm, func() { spec.show(vm) })
	return nil
}

// show sets properties of the VM; the caller holds its lock.
func (o *obstacles) show(vm *simulator.VirtualMachine) {
	if o.FaultTolerance {
		vm.Config.FtInfo = &types.FaultToleranceConfigInfo{
			Role: 1, InstanceUuids: []string{vm.Config.InstanceUuid}, ConfigPaths: []string{vm.Config.Files.VmPathName},
		}
	}
	if o.Question != "" {
		vm.Runtime.Question = &types.VirtualMachineQuestionInfo{Id: "1", Text: o.Question}
	}
	if o.EncryptedHome {
		vm.Config.KeyId = &types.CryptoKeyId{KeyId: "lab-key", ProviderId: &types.KeyProviderId{Id: "lab-kms"}}
	}
	if o.ConsolidationNeeded {
		vm.Runtime.ConsolidationNeeded = types.NewBool(true)
	}
	if o.Inaccessible {
		vm.Runtime.ConnectionState = types.VirtualMachineConnectionStateInaccessible
		vm.Config = nil // as a vCenter does that cannot read the VM's files
	}
}

// deny is the fault of a call for which the account lacks the privilege on the VM; nil when it has it.
func (l *lab) deny(vm types.ManagedObjectReference, method string) types.BaseMethodFault {
	privilege := privilegeOf[method]
	if privilege == "" || l.granted(vm, privilege) {
		return nil
	}
	return &types.NoPermission{Object: &vm, PrivilegeId: privilege}
}

func (l *lab) granted(entity types.ManagedObjectReference, privilege string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.machines[entity]
	if m == nil {
		return true
	}
	for _, denied := range m.denied {
		if denied == privilege {
			return false
		}
	}
	return true
}

// HasPrivilegeOnEntities tells what is denied; the simulator grants everything.
func (g *gate) HasPrivilegeOnEntities(
	_ *simulator.Context, request *types.HasPrivilegeOnEntities,
) soap.HasFault {
	body := &methods.HasPrivilegeOnEntitiesBody{Res: new(types.HasPrivilegeOnEntitiesResponse)}
	for _, entity := range request.Entity {
		answer := types.EntityPrivilege{Entity: entity}
		for _, privilege := range request.PrivId {
			answer.PrivAvailability = append(answer.PrivAvailability, types.PrivilegeAvailability{
				PrivId: privilege, IsGranted: g.lab.granted(entity, privilege),
			})
		}
		body.Res.Returnval = append(body.Res.Returnval, answer)
	}
	return body
}

// FindByUuid finds VMs as the simulator's does, which panics on one that has no configuration.
func (g *gate) FindByUuid(ctx *simulator.Context, request *types.FindByUuid) soap.HasFault {
	body := &methods.FindByUuidBody{Res: new(types.FindByUuidResponse)}
	byInstance := request.InstanceUuid != nil && *request.InstanceUuid
	for _, entity := range ctx.Map.All("VirtualMachine") {
		vm := entity.(*simulator.VirtualMachine)
		if vm.Config == nil || !request.VmSearch {
			continue
		}
		uuid := vm.Config.Uuid
		if byInstance {
			uuid = vm.Config.InstanceUuid
		}
		if uuid == request.Uuid {
			body.Res.Returnval = &vm.Self
		}
	}
	return body
}
