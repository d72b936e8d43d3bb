package main

import (
	"fmt"
	"os"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// guestNature is how a guest behaves.
type guestNature struct {
	Tools           string  `json:"tools"`
	IgnoresShutdown bool    `json:"ignores_shutdown"`
	ShutdownSeconds float64 `json:"shutdown_seconds"`
}

func (n guestNature) check() error {
	switch n.Tools {
	case toolsRunning, toolsNotRunning, toolsNotInstalled:
		return nil
	}
	return fmt.Errorf("unknown state of tools %q", n.Tools)
}

var defaultNature = guestNature{Tools: toolsRunning, ShutdownSeconds: 0.5}

// diskRecord is what the lab knows of a disk; guarded by lab.mu.
type diskRecord struct {
	Key       int32  `json:"key"`
	File      string `json:"file"`
	Gets      int    `json:"gets"`
	Completed int    `json:"completed"`
	Bytes     int64  `json:"bytes"`
	Cookies   int    `json:"cookies"` // requests that brought one along
}

// machine is what the lab knows of a VM beside the simulator; guarded by lab.mu.
type machine struct {
	guest        guestNature
	powerChanges int
	denied       []string // privileges that the account lacks
	calls        map[string]int
	disks        map[int32]*diskRecord
}

// machine returns the record of a VM, made when first asked for.
func (l *lab) machine(ref types.ManagedObjectReference) *machine {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := l.machines[ref]
	if found == nil {
		found = &machine{guest: defaultNature, calls: map[string]int{}, disks: map[int32]*diskRecord{}}
		l.machines[ref] = found
	}
	return found
}

func (l *lab) diskRecord(m *machine, key int32) *diskRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := m.disks[key]
	if found == nil {
		found = &diskRecord{Key: key}
		m.disks[key] = found
	}
	return found
}

func (l *lab) diskPath(d *diskRecord) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return d.File
}

// setDiskFile tells which streamOptimized VMDK the export of a disk sends.
func (l *lab) setDiskFile(ref types.ManagedObjectReference, key int32, path string) error {
	if path != "" {
		if _, err := os.Stat(path); err != nil {
			return err
		}
	}
	record := l.diskRecord(l.machine(ref), key)
	l.mu.Lock()
	record.File = path
	l.mu.Unlock()
	return nil
}

func (l *lab) countOn(ref types.ManagedObjectReference, method string) {
	m := l.machine(ref)
	l.mu.Lock()
	m.calls[method]++
	l.mu.Unlock()
}

func (l *lab) countBody(file *exportedFile, change func(*diskRecord)) {
	if file.record == nil {
		return
	}
	l.mu.Lock()
	change(file.record)
	l.mu.Unlock()
}

// vmName is the name of the VM that a call is about, or "".
func (l *lab) vmName(ref types.ManagedObjectReference) string {
	switch ref.Type {
	case "VirtualMachine":
		if vm, ok := l.model.Map().Get(ref).(*simulator.VirtualMachine); ok {
			return vm.Name
		}
	case "HttpNfcLease":
		for _, candidate := range l.allLeases() {
			if candidate.Self == ref {
				return candidate.vmName
			}
		}
	}
	return ""
}

// findVM finds a VM by its name or MoRef.
func (l *lab) findVM(id string) (*simulator.VirtualMachine, error) {
	for _, entity := range l.model.Map().All("VirtualMachine") {
		vm := entity.(*simulator.VirtualMachine)
		if vm.Self.Value == id || vm.Name == id {
			return vm, nil
		}
	}
	return nil, fmt.Errorf("no VM is called %q", id)
}

// setNature changes a guest's behaviour, and what is seen of it now.
func (l *lab) setNature(vm *simulator.VirtualMachine, nature guestNature) error {
	if err := nature.check(); err != nil {
		return err
	}
	m := l.machine(vm.Self)
	l.mu.Lock()
	m.guest = nature
	l.mu.Unlock()
	ctx := l.background()
	ctx.WithLock(vm, func() { showGuest(ctx, vm, nature, vm.Runtime.PowerState) })
	return nil
}

// setPower brings a VM into a power state (`on`, `off`, `suspended`), even one that a lease locks.
func (l *lab) setPower(vm mo.Reference, state string) error {
	ctx := adminContext()
	handle := object.NewVirtualMachine(l.client, vm.Reference())
	var (
		task *object.Task
		err  error
	)
	switch state {
	case "on":
		task, err = handle.PowerOn(ctx)
	case "off":
		task, err = handle.PowerOff(ctx)
	case "suspended":
		task, err = handle.Suspend(ctx)
	default:
		return fmt.Errorf("unknown power state %q", state)
	}
	if err != nil {
		return err
	}
	return task.Wait(ctx)
}
