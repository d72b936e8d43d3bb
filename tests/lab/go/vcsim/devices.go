package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	datastoreName = "LocalDS_0"
	pciKey        = 100 // key of the PCI controller that every VM has
	ideKey        = 200 // key of the first of the two IDE controllers that every VM has
)

type nicSpec struct {
	Model   string `json:"model"` // e1000, e1000e, vmxnet2, vmxnet3, pcnet32, sriov
	Network string `json:"network"`
	MAC     string `json:"mac"` // empty: generated
}

type diskSpec struct {
	Controller string `json:"controller"` // lsilogic, lsilogic-sas, buslogic, pvscsi, ide, ahci, nvme
	Bus        *int32 `json:"bus"`        // empty: the first controller of that kind
	Unit       *int32 `json:"unit"`       // empty: the next free
	Size       int64  `json:"size"`
	File       string `json:"file"`       // the streamOptimized VMDK that its export sends
	Backing    string `json:"backing"`    // flat, rdm
	Mode       string `json:"mode"`       // persistent, independent_persistent, ...
	Sharing    string `json:"sharing"`    // sharingMultiWriter
	SharedBus  string `json:"shared_bus"` // of its SCSI controller: virtualSharing, physicalSharing
}

type cdromSpec struct {
	ISO       string `json:"iso"` // datastore path; empty: the client's drive
	Connected bool   `json:"connected"`
}

// deviceBuilder collects the devices of a VM under the keys that a vCenter gives them.
type deviceBuilder struct {
	list  object.VirtualDeviceList
	disks []*types.VirtualDisk
	nics  []types.BaseVirtualEthernetCard
	cdrom *types.VirtualCdrom
}

// controllerKind says how a vCenter numbers controllers of a family and the disks on them.
type controllerKind struct {
	family   string
	key      int32 // of the controller on bus 0
	diskKey  int32 // of unit 0 on bus 0
	perBus   int32 // distance of the disk keys of two buses
	units    int32
	reserved int32 // unit of the controller itself
	pciUnit  int32
	create   func(types.VirtualController) types.BaseVirtualDevice
}

// places is how many disks such a controller takes.
func (k controllerKind) places() int {
	if k.reserved < 0 {
		return int(k.units)
	}
	return int(k.units) - 1
}

func scsi(create func(types.VirtualSCSIController) types.BaseVirtualDevice) controllerKind {
	return controllerKind{
		family: "scsi", key: 1000, diskKey: 2000, perBus: 16, units: 16, reserved: 7, pciUnit: 3,
		create: func(c types.VirtualController) types.BaseVirtualDevice {
			return create(types.VirtualSCSIController{
				VirtualController:  c,
				HotAddRemove:       types.NewBool(true),
				SharedBus:          types.VirtualSCSISharingNoSharing,
				ScsiCtlrUnitNumber: 7,
			})
		},
	}
}

var controllerKinds = map[string]controllerKind{
	"pvscsi": scsi(func(c types.VirtualSCSIController) types.BaseVirtualDevice {
		return &types.ParaVirtualSCSIController{VirtualSCSIController: c}
	}),
	"lsilogic": scsi(func(c types.VirtualSCSIController) types.BaseVirtualDevice {
		return &types.VirtualLsiLogicController{VirtualSCSIController: c}
	}),
	"lsilogic-sas": scsi(func(c types.VirtualSCSIController) types.BaseVirtualDevice {
		return &types.VirtualLsiLogicSASController{VirtualSCSIController: c}
	}),
	"buslogic": scsi(func(c types.VirtualSCSIController) types.BaseVirtualDevice {
		return &types.VirtualBusLogicController{VirtualSCSIController: c}
	}),
	"ide": {
		family: "ide", key: ideKey, diskKey: 3000, perBus: 2, units: 2, reserved: -1,
		create: func(c types.VirtualController) types.BaseVirtualDevice {
			return &types.VirtualIDEController{VirtualController: c}
		},
	},
	"ahci": {
		family: "sata", key: 15000, diskKey: 16000, perBus: 30, units: 30, reserved: -1, pciUnit: 24,
		create: func(c types.VirtualController) types.BaseVirtualDevice {
			return &types.VirtualAHCIController{VirtualSATAController: types.VirtualSATAController{VirtualController: c}}
		},
	},
	"nvme": {
		family: "nvme", key: 31000, diskKey: 32000, perBus: 15, units: 15, reserved: -1, pciUnit: 30,
		create: func(c types.VirtualController) types.BaseVirtualDevice {
			return &types.VirtualNVMEController{VirtualController: c}
		},
	},
}

// controller finds the controller for a disk, or makes it.
func (b *deviceBuilder) controller(spec *diskSpec) (*types.VirtualController, controllerKind, error) {
	kind, ok := controllerKinds[spec.Controller]
	if !ok {
		return nil, kind, fmt.Errorf("unknown controller %q", spec.Controller)
	}
	sample := b.list.Type(kind.create(types.VirtualController{}))
	bus := int32(0)
	for _, device := range b.list {
		found, is := device.(types.BaseVirtualController)
		if !is {
			continue
		}
		c := found.GetVirtualController()
		same := b.list.Type(device) == sample
		switch {
		case spec.Bus != nil && c.BusNumber == *spec.Bus && familyOf(c.Key) == kind.family:
			if !same {
				return nil, kind, fmt.Errorf("%s bus %d is of another type", kind.family, c.BusNumber)
			}
			return c, kind, nil
		case spec.Bus == nil && same && len(c.Device) < kind.places():
			return c, kind, nil
		case familyOf(c.Key) == kind.family:
			bus = max(bus, c.BusNumber+1)
		}
	}
	if spec.Bus != nil {
		bus = *spec.Bus
	}
	device := kind.create(types.VirtualController{
		VirtualDevice: types.VirtualDevice{
			Key:           kind.key + bus,
			ControllerKey: pciKey,
			UnitNumber:    types.NewInt32(kind.pciUnit + bus),
		},
		BusNumber: bus,
	})
	if kind.family == "ide" { // they stand on no PCI slot
		device.GetVirtualDevice().ControllerKey = 0
		device.GetVirtualDevice().UnitNumber = nil
	}
	b.list = append(b.list, device)
	return device.(types.BaseVirtualController).GetVirtualController(), kind, nil
}

func familyOf(controllerKey int32) string {
	for _, kind := range controllerKinds {
		if controllerKey >= kind.key && controllerKey < kind.key+100 {
			return kind.family
		}
	}
	return ""
}

// attach gives the device the unit, or the next free one, and the key that follows from it.
func (b *deviceBuilder) attach(
	device *types.VirtualDevice, controller *types.VirtualController, kind controllerKind, unit *int32,
) error {
	taken := map[int32]bool{kind.reserved: true}
	for _, other := range b.list {
		d := other.GetVirtualDevice()
		if d.ControllerKey == controller.Key && d.UnitNumber != nil {
			taken[*d.UnitNumber] = true
		}
	}
	free := int32(0)
	if unit != nil {
		free = *unit
	} else {
		for taken[free] {
			free++
		}
	}
	if taken[free] || free >= kind.units {
		return fmt.Errorf("unit %d of %s bus %d cannot be had", free, kind.family, controller.BusNumber)
	}
	device.ControllerKey = controller.Key
	device.UnitNumber = types.NewInt32(free)
	device.Key = kind.diskKey + controller.BusNumber*kind.perBus + free
	controller.Device = append(controller.Device, device.Key)
	return nil
}

func (b *deviceBuilder) addDisk(spec *diskSpec, encrypted bool) error {
	controller, kind, err := b.controller(spec)
	if err != nil {
		return err
	}
	if spec.SharedBus != "" {
		b.shareBus(controller.Key, types.VirtualSCSISharing(spec.SharedBus))
	}
	disk := &types.VirtualDisk{CapacityInBytes: spec.Size, CapacityInKB: spec.Size / 1024}
	file := types.VirtualDeviceFileBackingInfo{FileName: "[" + datastoreName + "]"}
	switch spec.Backing {
	case "", "flat", "rdm":
	default:
		return fmt.Errorf("unknown backing %q", spec.Backing)
	}
	backing := &types.VirtualDiskFlatVer2BackingInfo{
		VirtualDeviceFileBackingInfo: file,
		DiskMode:                     orElse(spec.Mode, string(types.VirtualDiskModePersistent)),
		ThinProvisioned:              types.NewBool(true),
		Sharing:                      spec.Sharing,
	}
	if encrypted {
		backing.KeyId = &types.CryptoKeyId{KeyId: "lab-key", ProviderId: &types.KeyProviderId{Id: "lab-kms"}}
	}
	disk.Backing = backing
	if err := b.attach(&disk.VirtualDevice, controller, kind, spec.Unit); err != nil {
		return err
	}
	b.list = append(b.list, disk)
	b.disks = append(b.disks, disk)
	return nil
}

func (b *deviceBuilder) shareBus(controllerKey int32, how types.VirtualSCSISharing) {
	for _, device := range b.list {
		if scsi, ok := device.(types.BaseVirtualSCSIController); ok {
			if controller := scsi.GetVirtualSCSIController(); controller.Key == controllerKey {
				controller.SharedBus = how
			}
		}
	}
}

// finalBacking is what the disk has in the end. The simulator makes no raw device mappings (it panics), so
// such a disk is made flat and becomes one afterwards.
func (s *diskSpec) finalBacking(made types.BaseVirtualDeviceBackingInfo) types.BaseVirtualDeviceBackingInfo {
	flat, ok := made.(*types.VirtualDiskFlatVer2BackingInfo)
	if s.Backing != "rdm" || !ok {
		return made
	}
	return &types.VirtualDiskRawDiskMappingVer1BackingInfo{
		VirtualDeviceFileBackingInfo: flat.VirtualDeviceFileBackingInfo,
		DiskMode:                     flat.DiskMode,
		Sharing:                      flat.Sharing,
		Uuid:                         flat.Uuid,
		CompatibilityMode:            string(types.VirtualDiskCompatibilityModePhysicalMode),
		DeviceName:                   "vml.0200000000600508b1001c",
		LunUuid:                      "0200000000600508b1001c",
	}
}

func backingFile(disk *types.VirtualDisk) string {
	return disk.Backing.(types.BaseVirtualDeviceFileBackingInfo).GetVirtualDeviceFileBackingInfo().FileName
}

func (b *deviceBuilder) addNIC(ctx context.Context, finder *find.Finder, spec *nicSpec) error {
	network, err := finder.Network(ctx, spec.Network)
	if err != nil {
		return err
	}
	backing, err := network.EthernetCardBackingInfo(ctx)
	if err != nil {
		return err
	}
	device, err := b.list.CreateEthernetCard(orElse(spec.Model, "vmxnet3"), backing)
	if err != nil {
		return err
	}
	card := device.(types.BaseVirtualEthernetCard).GetVirtualEthernetCard()
	place := int32(len(b.nics))
	card.Key = 4000 + place
	card.ControllerKey = pciKey
	card.UnitNumber = types.NewInt32(7 + place)
	card.AddressType = string(types.VirtualEthernetCardMacTypeAssigned)
	if spec.MAC != "" {
		card.MacAddress = spec.MAC
		card.AddressType = string(types.VirtualEthernetCardMacTypeManual)
	}
	b.list = append(b.list, device)
	b.nics = append(b.nics, device.(types.BaseVirtualEthernetCard))
	return nil
}

// addCDROM puts a drive on the second IDE channel.
func (b *deviceBuilder) addCDROM(spec *cdromSpec) {
	drive := &types.VirtualCdrom{VirtualDevice: types.VirtualDevice{
		Key:           3002,
		ControllerKey: ideKey + 1,
		UnitNumber:    types.NewInt32(0),
		Connectable: &types.VirtualDeviceConnectInfo{
			AllowGuestControl: true, Connected: spec.Connected, StartConnected: spec.Connected,
		},
	}}
	if spec.ISO == "" {
		drive.Backing = &types.VirtualCdromRemotePassthroughBackingInfo{}
	} else {
		drive.Backing = &types.VirtualCdromIsoBackingInfo{
			VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: spec.ISO},
		}
	}
	b.list = append(b.list, drive)
	b.cdrom = drive
}

func (b *deviceBuilder) addTPM() {
	b.list = append(b.list, &types.VirtualTPM{VirtualDevice: types.VirtualDevice{Key: 11000, ControllerKey: pciKey}})
}

// bootable translates `disk:0`, `nic:1` or `cdrom` into an entry of the boot order.
func (b *deviceBuilder) bootable(place string) (types.BaseVirtualMachineBootOptionsBootableDevice, error) {
	kind, number, _ := strings.Cut(place, ":")
	index, err := strconv.Atoi(orElse(number, "0"))
	switch {
	case err != nil || index < 0:
	case kind == "disk" && index < len(b.disks):
		return &types.VirtualMachineBootOptionsBootableDiskDevice{DeviceKey: b.disks[index].Key}, nil
	case kind == "nic" && index < len(b.nics):
		key := b.nics[index].GetVirtualEthernetCard().Key
		return &types.VirtualMachineBootOptionsBootableEthernetDevice{DeviceKey: key}, nil
	case kind == "cdrom" && b.cdrom != nil:
		return &types.VirtualMachineBootOptionsBootableCdromDevice{}, nil
	}
	return nil, fmt.Errorf("no device is %q", place)
}

func (b *deviceBuilder) changes() []types.BaseVirtualDeviceConfigSpec {
	var changes []types.BaseVirtualDeviceConfigSpec
	for _, device := range b.list {
		change := &types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationAdd,
			Device:    device,
		}
		if _, ok := device.(*types.VirtualDisk); ok {
			change.FileOperation = types.VirtualDeviceConfigSpecFileOperationCreate
		}
		changes = append(changes, change)
	}
	return changes
}
