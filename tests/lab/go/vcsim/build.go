package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// vmSpec describes a VM to make (POST /vms).
type vmSpec struct {
	Name           string            `json:"name"`
	Datacenter     string            `json:"datacenter"` // name or path; empty: the first
	Folder         string            `json:"folder"`     // below the datacenter's VM folder; made when missing
	CPUs           int32             `json:"cpus"`
	CoresPerSocket int32             `json:"cores_per_socket"`
	MemoryMiB      int64             `json:"memory_mib"`
	Firmware       string            `json:"firmware"` // bios, efi
	SecureBoot     bool              `json:"secure_boot"`
	TPM            bool              `json:"tpm"`
	Encrypted      bool              `json:"encrypted"`
	GuestID        string            `json:"guest_id"`
	Annotation     string            `json:"annotation"`
	UUID           string            `json:"uuid"`
	InstanceUUID   string            `json:"instance_uuid"`
	NICs           []nicSpec         `json:"nics"`
	Disks          []diskSpec        `json:"disks"`
	CDROM          *cdromSpec        `json:"cdrom"`
	BootOrder      []string          `json:"boot_order"` // disk:N, nic:N (places in the lists above), cdrom
	ExtraConfig    map[string]string `json:"extra_config"`
	Snapshots      int               `json:"snapshots"`
	PowerState     string            `json:"power_state"` // on, off, suspended
	Obstacles      obstacles         `json:"obstacles"`
	guestNature
}

// madeVM is the answer: what the test needs to name the parts.
type madeVM struct {
	MoRef        string     `json:"moref"`
	UUID         string     `json:"uuid"`
	InstanceUUID string     `json:"instance_uuid"`
	Disks        []madeDisk `json:"disks"`
	NICs         []madeNIC  `json:"nics"`
}

type madeDisk struct {
	Key        int32  `json:"key"`
	Controller string `json:"controller"`
	Bus        int32  `json:"bus"`
	Unit       int32  `json:"unit"`
	FileName   string `json:"file_name"`
}

type madeNIC struct {
	Key int32  `json:"key"`
	MAC string `json:"mac"`
}

// makeVM creates the VM through the simulator's own API, as an administrator would.
func (l *lab) makeVM(spec *vmSpec) (*madeVM, error) {
	ctx := adminContext()
	if err := spec.check(); err != nil {
		return nil, err
	}
	finder := l.finder()
	datacenter, err := finder.Datacenter(ctx, orElse(spec.Datacenter, l.firstDatacenter()))
	if err != nil {
		return nil, err
	}
	finder.SetDatacenter(datacenter)
	folder, err := l.vmFolder(ctx, datacenter, spec.Folder)
	if err != nil {
		return nil, err
	}
	host, pool, err := placement(ctx, finder)
	if err != nil {
		return nil, err
	}
	devices := &deviceBuilder{}
	config, err := spec.config(ctx, finder, devices)
	if err != nil {
		return nil, err
	}
	task, err := folder.CreateVM(ctx, *config, pool, host)
	if err != nil {
		return nil, err
	}
	info, err := task.WaitForResult(ctx, nil)
	if err != nil {
		return nil, err
	}
	vm, ok := l.model.Map().Get(info.Result.(types.ManagedObjectReference)).(*simulator.VirtualMachine)
	if !ok {
		return nil, fmt.Errorf("%s has vanished", spec.Name)
	}
	if plainName(spec.Name) != spec.Name {
		if task, err = object.NewVirtualMachine(l.client, vm.Self).Rename(ctx, storedName(spec.Name)); err != nil {
			return nil, err
		}
		if err := task.Wait(ctx); err != nil {
			return nil, err
		}
	}
	return l.finish(vm, spec, devices)
}

// plainName is a name under which the simulator can create a VM: on its way to the stored form of another it
// would lose numbers that are zero, such as the units of devices.
func plainName(name string) string {
	return strings.NewReplacer("%", "_", "/", "_", `\`, "_").Replace(name)
}

// storedName is the form in which a vCenter keeps a name (vSphere API reference, ManagedEntity.name).
func storedName(name string) string {
	return strings.NewReplacer("%", "%25", "/", "%2f", `\`, "%5c").Replace(name)
}

func (s *vmSpec) check() error {
	if s.Name == "" {
		return fmt.Errorf("a VM needs a name")
	}
	if s.Tools == "" {
		s.Tools = toolsRunning
	}
	return s.guestNature.check()
}

// finish gives the new VM its bytes, snapshots, guest and power state.
func (l *lab) finish(vm *simulator.VirtualMachine, spec *vmSpec, devices *deviceBuilder) (*madeVM, error) {
	ctx := adminContext()
	made := &madeVM{MoRef: vm.Self.Value, UUID: vm.Config.Uuid, InstanceUUID: vm.Config.InstanceUuid}
	list := object.VirtualDeviceList(vm.Config.Hardware.Device) // copies of ours, filled in by the simulator
	for i, ours := range devices.disks {
		disk := list.FindByKey(ours.Key).(*types.VirtualDisk)
		if err := l.setDiskFile(vm.Self, disk.Key, spec.Disks[i].File); err != nil {
			return nil, err
		}
		controller := list.FindByKey(disk.ControllerKey).(types.BaseVirtualController)
		made.Disks = append(made.Disks, madeDisk{
			Key:        disk.Key,
			Controller: spec.Disks[i].Controller,
			Bus:        controller.GetVirtualController().BusNumber,
			Unit:       *disk.UnitNumber,
			FileName:   backingFile(disk),
		})
	}
	for _, ours := range devices.nics {
		device := list.FindByKey(ours.GetVirtualEthernetCard().Key)
		card := device.(types.BaseVirtualEthernetCard).GetVirtualEthernetCard()
		made.NICs = append(made.NICs, madeNIC{Key: card.Key, MAC: card.MacAddress})
	}
	if err := l.setNature(vm, spec.guestNature); err != nil {
		return nil, err
	}
	handle := object.NewVirtualMachine(l.client, vm.Self)
	for i := range spec.Snapshots {
		task, err := handle.CreateSnapshot(ctx, "snapshot-"+strconv.Itoa(i), "", false, false)
		if err != nil {
			return nil, err
		}
		if err := task.Wait(ctx); err != nil {
			return nil, err
		}
	}
	background := l.background()
	background.WithLock(vm, func() {
		for i, ours := range devices.disks {
			disk := list.FindByKey(ours.Key).(*types.VirtualDisk)
			disk.Backing = spec.Disks[i].finalBacking(disk.Backing)
		}
	})
	switch spec.PowerState {
	case "", "off":
	case "suspended":
		if err := l.setPower(vm, "on"); err != nil {
			return nil, err
		}
		fallthrough
	default:
		if err := l.setPower(vm, spec.PowerState); err != nil {
			return nil, err
		}
	}
	return made, l.obstruct(vm, &spec.Obstacles)
}

// config translates the description into the vSphere API's.
func (s *vmSpec) config(
	ctx context.Context, finder *find.Finder, devices *deviceBuilder,
) (*types.VirtualMachineConfigSpec, error) {
	config := &types.VirtualMachineConfigSpec{
		Name:              plainName(s.Name),
		Annotation:        s.Annotation,
		GuestId:           orElse(s.GuestID, string(types.VirtualMachineGuestOsIdentifierOther3xLinux64Guest)),
		Firmware:          orElse(s.Firmware, string(types.GuestOsDescriptorFirmwareTypeBios)),
		Uuid:              s.UUID,
		InstanceUuid:      s.InstanceUUID,
		NumCPUs:           max(s.CPUs, 1),
		NumCoresPerSocket: max(s.CoresPerSocket, 1),
		MemoryMB:          max(s.MemoryMiB, 64),
		Files:             &types.VirtualMachineFileInfo{VmPathName: "[" + datastoreName + "]"},
		BootOptions:       &types.VirtualMachineBootOptions{EfiSecureBootEnabled: types.NewBool(s.SecureBoot)},

		CpuHotAddEnabled:    types.NewBool(s.Obstacles.HotAdd),
		MemoryHotAddEnabled: types.NewBool(s.Obstacles.HotAdd),
	}
	for i := range s.Disks {
		if err := devices.addDisk(&s.Disks[i], s.Encrypted); err != nil {
			return nil, err
		}
	}
	for i := range s.NICs {
		if err := devices.addNIC(ctx, finder, &s.NICs[i]); err != nil {
			return nil, err
		}
	}
	if s.CDROM != nil {
		devices.addCDROM(s.CDROM)
	}
	if s.TPM {
		devices.addTPM()
	}
	devices.addObstacles(&s.Obstacles)
	for _, place := range s.BootOrder {
		bootable, err := devices.bootable(place)
		if err != nil {
			return nil, err
		}
		config.BootOptions.BootOrder = append(config.BootOptions.BootOrder, bootable)
	}
	for key, value := range s.ExtraConfig {
		config.ExtraConfig = append(config.ExtraConfig, &types.OptionValue{Key: key, Value: value})
	}
	config.DeviceChange = devices.changes()
	return config, nil
}

// vmFolder finds the folder below the datacenter's VM folder, making what is missing.
func (l *lab) vmFolder(ctx context.Context, datacenter *object.Datacenter, path string) (*object.Folder, error) {
	folders, err := datacenter.Folders(ctx)
	if err != nil {
		return nil, err
	}
	folder := folders.VmFolder
	registry := l.model.Map()
	for _, name := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' }) {
		parent := registry.Get(folder.Reference()).(*simulator.Folder)
		if child := registry.FindByName(name, parent.ChildEntity); child != nil {
			folder = object.NewFolder(l.client, child.Reference())
			continue
		}
		if folder, err = folder.CreateFolder(ctx, name); err != nil {
			return nil, err
		}
	}
	return folder, nil
}

func placement(ctx context.Context, finder *find.Finder) (*object.HostSystem, *object.ResourcePool, error) {
	host, err := finder.DefaultHostSystem(ctx)
	if err != nil {
		return nil, nil, err
	}
	pool, err := host.ResourcePool(ctx)
	return host, pool, err
}

func orElse(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
