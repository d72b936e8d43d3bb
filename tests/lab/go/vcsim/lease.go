package main

import (
	"encoding/hex"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// lease is an HttpNfcLease as a vCenter keeps it: it becomes ready after a while, locks its VM, dies when
// nobody reports progress, and remains visible to its session after its end.
//
// What stands below `lab` is guarded by lab.mu, the managed object above by the simulator's lock.
type lease struct {
	mo.HttpNfcLease

	lab     *lab
	vm      types.ManagedObjectReference
	vmName  string
	session string
	token   string
	files   []*exportedFile

	task     *simulator.Task
	timer    *time.Timer
	ended    bool
	state    types.HttpNfcLeaseState
	timedOut bool
	percent  int32
	done     chan struct{}
}

// openLease makes the lease of an export, still initializing.
func (l *lab) openLease(
	ctx *simulator.Context, vm *simulator.VirtualMachine,
) (*lease, types.BaseMethodFault) {
	var (
		power types.VirtualMachinePowerState
		files []*exportedFile
		fault types.BaseMethodFault
	)
	ctx.WithLock(vm, func() {
		power = vm.Runtime.PowerState
		files, fault = l.exportedFiles(vm)
	})
	if power != types.VirtualMachinePowerStatePoweredOff {
		return nil, &types.InvalidPowerState{
			RequestedState: types.VirtualMachinePowerStatePoweredOff,
			ExistingState:  power,
		}
	}
	if fault != nil {
		return nil, fault
	}
	made := &lease{
		HttpNfcLease: mo.HttpNfcLease{
			Self: types.ManagedObjectReference{
				Type:  "HttpNfcLease",
				Value: "session[" + ctx.Session.Key + "]" + uuid.NewString(),
			},
			State: types.HttpNfcLeaseStateInitializing,
			Mode:  string(types.HttpNfcLeaseModePushOrGet),
		},
		lab:     l,
		vm:      vm.Self,
		vmName:  vm.Name,
		session: ctx.Session.Key,
		token:   uuid.NewString(),
		files:   files,
		state:   types.HttpNfcLeaseStateInitializing,
		done:    make(chan struct{}),
	}
	made.task = exportTask(ctx, vm)
	l.mu.Lock()
	busy := l.aliveLease(vm.Self)
	if busy == nil {
		l.leases = append(l.leases, made)
	}
	initializing := seconds(l.settings.LeaseInitializingSeconds)
	l.mu.Unlock()
	if busy != nil {
		return nil, busy.inProgress()
	}
	ctx.Map.Put(made.task)
	ctx.Session.Put(made)
	time.AfterFunc(initializing, made.becomeReady)
	return made, nil
}

// exportTask is the running task that a vCenter shows for an export. (One that the simulator runs would lock
// the VM against being looked at, too.)
func exportTask(ctx *simulator.Context, vm *simulator.VirtualMachine) *simulator.Task {
	run := func(*simulator.Task) (types.AnyType, types.BaseMethodFault) { return nil, nil }
	task := simulator.CreateTask(vm, "exportVm", run)
	task.Self = types.ManagedObjectReference{Type: "Task", Value: "task-export-" + uuid.NewString()}
	task.Info.Key = task.Self.Value
	task.Info.Task = task.Self
	task.Info.EntityName = vm.Name
	task.Info.Reason = &types.TaskReasonUser{UserName: ctx.Session.UserName}
	task.Info.State = types.TaskInfoStateRunning
	task.Info.StartTime = types.NewTime(time.Now())
	return task
}

// inProgress is the fault of a call that the lease makes impossible. Its task is not optional in the API:
// clients fail to parse the fault without one.
func (s *lease) inProgress() types.BaseMethodFault {
	return &types.TaskInProgress{Task: s.task.Self}
}

func (s *lease) becomeReady() {
	l := s.lab
	if fault := l.faults.failLease(s.vm.Value, s.vmName); fault != nil {
		s.end(l.background(), types.HttpNfcLeaseStateError, fault, "The lease could not be initialized")
		return
	}
	knobs := l.knobs()
	info := &types.HttpNfcLeaseInfo{
		Lease:        s.Self,
		Entity:       s.vm,
		LeaseTimeout: int32(math.Ceil(knobs.LeaseTimeoutSeconds)),
	}
	for _, file := range s.files {
		info.DeviceUrl = append(info.DeviceUrl, l.deviceURL(file, s.token, knobs))
		info.TotalDiskCapacityInKB += file.capacity / 1024
	}
	l.mu.Lock()
	if s.ended {
		l.mu.Unlock()
		return
	}
	s.state = types.HttpNfcLeaseStateReady
	s.timer = time.AfterFunc(seconds(knobs.LeaseTimeoutSeconds), s.expire)
	l.mu.Unlock()
	ctx := l.background()
	ctx.WithLock(s, func() {
		ctx.Update(s, []types.PropertyChange{
			{Name: "initializeProgress", Val: int32(100)},
			{Name: "info", Val: info},
			{Name: "state", Val: types.HttpNfcLeaseStateReady},
		})
	})
}

func (s *lease) expire() {
	s.lab.mu.Lock()
	s.timedOut = true
	s.lab.mu.Unlock()
	s.end(s.lab.background(), types.HttpNfcLeaseStateError, &types.Timedout{}, "The operation timed out")
}

// end gives the VM free, cuts the bodies that are being sent, and says whether the lease was alive.
func (s *lease) end(
	ctx *simulator.Context, state types.HttpNfcLeaseState, fault types.BaseMethodFault, message string,
) bool {
	s.lab.mu.Lock()
	if s.ended {
		s.lab.mu.Unlock()
		return false
	}
	s.ended = true
	s.state = state
	if s.timer != nil {
		s.timer.Stop()
	}
	close(s.done)
	s.lab.mu.Unlock()

	changes := []types.PropertyChange{{Name: "state", Val: state}}
	if fault != nil {
		changes = append(changes, types.PropertyChange{
			Name: "error",
			Val:  &types.LocalizedMethodFault{Fault: fault, LocalizedMessage: message},
		})
	}
	ctx.WithLock(s, func() { ctx.Update(s, changes) })
	ctx.WithLock(s.task, func() { ctx.Update(s.task, taskEnd(fault, message)) })
	return true
}

func taskEnd(fault types.BaseMethodFault, message string) []types.PropertyChange {
	changes := []types.PropertyChange{{Name: "info.completeTime", Val: time.Now()}}
	if fault == nil {
		return append(changes, types.PropertyChange{Name: "info.state", Val: types.TaskInfoStateSuccess})
	}
	return append(
		changes,
		types.PropertyChange{Name: "info.state", Val: types.TaskInfoStateError},
		types.PropertyChange{
			Name: "info.error",
			Val:  types.LocalizedMethodFault{Fault: fault, LocalizedMessage: message},
		},
	)
}

// over is the fault that a call on a lease gets after its end.
func (s *lease) over() *soap.Fault {
	s.lab.mu.Lock()
	defer s.lab.mu.Unlock()
	if s.timedOut {
		return simulator.Fault("The operation timed out", &types.Timedout{})
	}
	return simulator.Fault("The lease is over", &types.InvalidState{})
}

// HttpNfcLeaseProgress keeps the lease alive.
func (s *lease) HttpNfcLeaseProgress(
	ctx *simulator.Context, request *types.HttpNfcLeaseProgress,
) soap.HasFault {
	body := new(methods.HttpNfcLeaseProgressBody)
	s.lab.mu.Lock()
	alive := !s.ended
	if alive {
		s.percent = request.Percent
		if s.timer != nil {
			s.timer.Reset(seconds(s.lab.settings.LeaseTimeoutSeconds))
		}
	}
	s.lab.mu.Unlock()
	if !alive {
		body.Fault_ = s.over()
		return body
	}
	ctx.Update(s, []types.PropertyChange{{Name: "transferProgress", Val: request.Percent}})
	body.Res = new(types.HttpNfcLeaseProgressResponse)
	return body
}

// HttpNfcLeaseComplete ends the lease well.
func (s *lease) HttpNfcLeaseComplete(ctx *simulator.Context, _ *types.HttpNfcLeaseComplete) soap.HasFault {
	body := new(methods.HttpNfcLeaseCompleteBody)
	if !s.end(ctx, types.HttpNfcLeaseStateDone, nil, "") {
		body.Fault_ = s.over()
		return body
	}
	body.Res = new(types.HttpNfcLeaseCompleteResponse)
	return body
}

// HttpNfcLeaseAbort gives the lease up.
func (s *lease) HttpNfcLeaseAbort(ctx *simulator.Context, request *types.HttpNfcLeaseAbort) soap.HasFault {
	body := new(methods.HttpNfcLeaseAbortBody)
	var fault types.BaseMethodFault = &types.RequestCanceled{}
	message := "The task was canceled by a user"
	if request.Fault != nil {
		fault, message = request.Fault.Fault, request.Fault.LocalizedMessage
	}
	if !s.end(ctx, types.HttpNfcLeaseStateError, fault, message) {
		body.Fault_ = s.over()
		return body
	}
	body.Res = new(types.HttpNfcLeaseAbortResponse)
	return body
}

// HttpNfcLeaseGetManifest gives size and SHA-1 of every body that was sent to its end.
func (s *lease) HttpNfcLeaseGetManifest(*simulator.Context, *types.HttpNfcLeaseGetManifest) soap.HasFault {
	body := new(methods.HttpNfcLeaseGetManifestBody)
	s.lab.mu.Lock()
	defer s.lab.mu.Unlock()
	body.Res = new(types.HttpNfcLeaseGetManifestResponse)
	for _, file := range s.files {
		if file.sha1 == nil {
			continue
		}
		entry := types.HttpNfcLeaseManifestEntry{
			Key:  file.key,
			Sha1: hex.EncodeToString(file.sha1),
			Size: file.sent,
			Disk: file.disk,
		}
		if file.disk {
			entry.Capacity = file.capacity
		}
		body.Res.Returnval = append(body.Res.Returnval, entry)
	}
	return body
}

// aliveLease finds the lease that locks the VM; the caller holds l.mu.
func (l *lab) aliveLease(vm types.ManagedObjectReference) *lease {
	for _, candidate := range l.leases {
		if candidate.vm == vm && !candidate.ended {
			return candidate
		}
	}
	return nil
}

func (l *lab) leaseOf(vm types.ManagedObjectReference) *lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.aliveLease(vm)
}

// endLeasesOf ends the leases of a session that logs out: a lease is an object of its session. (A session
// that merely expires leaves them to run into their own timeout.)
func (l *lab) endLeasesOf(session string) {
	for _, candidate := range l.allLeases() {
		if candidate.session == session {
			candidate.end(l.background(), types.HttpNfcLeaseStateError, &types.RequestCanceled{}, "Logged out")
		}
	}
}

func (l *lab) allLeases() []*lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*lease(nil), l.leases...)
}
