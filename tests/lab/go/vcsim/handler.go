package main

import (
	"reflect"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// blockedByLease are the calls that an export lease makes impossible: it locks the VM against change.
var blockedByLease = map[string]bool{
	"PowerOnVM_Task":        true,
	"Destroy_Task":          true,
	"ReconfigVM_Task":       true,
	"UnregisterVM":          true,
	"CreateSnapshot_Task":   true,
	"CreateSnapshotEx_Task": true,
	"RelocateVM_Task":       true,
	"MarkAsTemplate":        true,
}

// handle sees every SOAP call before the simulator does.
//
// The simulator takes its answering object from the session when there is one, whatever a Handler returns;
// but it looks it up by method.This. So calls that are answered here are redirected to the gate by changing
// that; the body still names the VM.
func (l *lab) handle(ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	if l.fromInside(ctx) {
		return nil, nil
	}

	l.mu.Lock()
	l.calls[method.Name]++
	l.mu.Unlock()
	if fault := requireSession(ctx, method); fault != nil {
		return nil, fault
	}
	name := l.vmName(method.This)
	l.faults.delayMethod(method.Name, method.This.Value, name)
	if fault := l.faults.failMethod(method.Name, method.This.Value, name); fault != nil {
		return nil, fault
	}
	if method.Name == "Logout" && ctx.Session != nil {
		l.endLeasesOf(ctx.Session.Key)
	}
	if ctx.Session == nil {
		return nil, nil
	}
	if gateServices[method.Name] {
		method.This = gateReference
	}
	if method.This.Type != "VirtualMachine" {
		return nil, nil
	}
	l.countOn(method.This, method.Name)
	if fault := l.deny(method.This, method.Name); fault != nil {
		return nil, fault
	}
	if blockedByLease[method.Name] {
		if alive := l.leaseOf(method.This); alive != nil {
			return nil, alive.inProgress()
		}
	}
	if gateMethods[method.Name] && l.model.Map().Get(method.This) != nil {
		method.This = gateReference
	}
	return nil, nil
}

// fromInside says whether a call is the lab's own.
//
// The helpers of govmomi clean up under a context of their own, but in the one session of in-process calls.
func (l *lab) fromInside(ctx *simulator.Context) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if isAdmin(ctx.Context) {
		l.insideSession = ctx.Session.Key
		return true
	}
	return ctx.Session != nil && ctx.Session.Key == l.insideSession
}

// requireSession refuses what the simulator would answer without a session. A real vCenter shows a stranger
// nothing but its ServiceContent; so an expired session is noticed at the next call, not at the next task.
func requireSession(ctx *simulator.Context, method *simulator.Method) types.BaseMethodFault {
	if ctx.Session != nil {
		return nil
	}
	var specs []types.PropertyFilterSpec
	switch body := method.Body.(type) {
	case *types.RetrieveProperties:
		specs = body.SpecSet
	case *types.RetrievePropertiesEx:
		specs = body.SpecSet
	default:
		if method.Name != "Fetch" { // its type is internal to the simulator
			return nil
		}
		this := reflect.ValueOf(body).Elem().FieldByName("This").Interface().(types.ManagedObjectReference)
		specs = []types.PropertyFilterSpec{{ObjectSet: []types.ObjectSpec{{Obj: this}}}}
	}
	for _, spec := range specs {
		for _, object := range spec.ObjectSet {
			if object.Obj.Type != "ServiceInstance" && object.Obj.Type != "SessionManager" {
				return &types.NotAuthenticated{
					NoPermission: types.NoPermission{Object: &object.Obj, PrivilegeId: "System.View"},
				}
			}
		}
	}
	return nil
}

// faultNamed makes a fault of the vSphere API from its name (`NoPermission`), or nil.
func faultNamed(name string) types.BaseMethodFault {
	kind, ok := types.TypeFunc()(name)
	if !ok {
		return nil
	}
	fault, _ := reflect.New(kind).Interface().(types.BaseMethodFault)
	return fault
}
