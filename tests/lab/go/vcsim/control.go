package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
)

// controlAPI is the HTTP API of the tests: JSON in, JSON out, 400 with {"error": ...} for what cannot be done.
func (l *lab) controlAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", answer(func(*http.Request) (any, error) { return l.state(), nil }))
	mux.HandleFunc("GET /settings", answer(func(*http.Request) (any, error) { return l.knobs(), nil }))
	mux.HandleFunc("PATCH /settings", answer(l.patchSettings))
	mux.HandleFunc("PUT /credentials", answer(l.putCredentials))
	mux.HandleFunc("POST /certificates", answer(l.postCertificate))
	mux.HandleFunc("POST /networks", answer(l.postNetwork))
	mux.HandleFunc("POST /vms", answer(l.postVM))
	mux.HandleFunc("PATCH /vms/{vm}", answer(l.patchVM))
	mux.HandleFunc("DELETE /vms/{vm}", answer(l.deleteVM))
	mux.HandleFunc("POST /vms/{vm}/power", answer(l.postPower))
	mux.HandleFunc("PUT /disks/{vm}/{key}", answer(l.putDisk))
	mux.HandleFunc("GET /faults", answer(func(*http.Request) (any, error) { return l.faults.list(), nil }))
	mux.HandleFunc("POST /faults", answer(l.postFault))
	mux.HandleFunc("DELETE /faults", answer(func(*http.Request) (any, error) { l.faults.clear(); return nil, nil }))
	mux.HandleFunc("POST /leases/expire", answer(l.expireLeases))
	mux.HandleFunc("POST /sessions/expire", answer(l.expireSessions))
	mux.HandleFunc("POST /connections/cut", answer(l.cutConnections))
	return mux
}

func answer(do func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		result, err := do(r)
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			result = map[string]string{"error": err.Error()}
		}
		_ = json.NewEncoder(w).Encode(result)
	}
}

// decode reads the body into the value and refuses fields that it does not have: a misspelt knob is an error.
func decode(r *http.Request, into any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

func (l *lab) patchSettings(r *http.Request) (any, error) {
	changed := l.knobs()
	if err := decode(r, &changed); err != nil {
		return nil, err
	}
	switch changed.NFCHost {
	case "esxi", "star", "vcenter":
	default:
		return nil, fmt.Errorf("unknown nfc_host %q", changed.NFCHost)
	}
	if _, err := l.vcenter.leaf().thumbprint(changed.Thumbprint); err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.settings = changed
	l.mu.Unlock()
	if changed.Down {
		l.vcenter.cut()
		l.esxi.cut()
	}
	return changed, nil
}

func (l *lab) putCredentials(r *http.Request) (any, error) {
	var body struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.username, l.password = body.Username, body.Password
	l.mu.Unlock()
	return nil, nil
}

func (l *lab) postCertificate(r *http.Request) (any, error) {
	var body struct {
		Server     string   `json:"server"` // vcenter, esxi
		Names      []string `json:"names"`
		SelfSigned bool     `json:"self_signed"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	server := map[string]*tlsServer{"vcenter": l.vcenter, "esxi": l.esxi}[body.Server]
	if server == nil {
		return nil, fmt.Errorf("unknown server %q", body.Server)
	}
	if len(body.Names) == 0 {
		body.Names = []string{"localhost", "127.0.0.1"}
	}
	issued, err := l.pki.issue(body.Names, body.SelfSigned)
	if err != nil {
		return nil, err
	}
	server.present(issued)
	return map[string]string{"fingerprint": issued.sha256(), "pem": issued.pem()}, nil
}

func (l *lab) postNetwork(r *http.Request) (any, error) {
	var spec networkSpec
	if err := decode(r, &spec); err != nil {
		return nil, err
	}
	return nil, l.makeNetwork(&spec)
}

func (l *lab) postVM(r *http.Request) (any, error) {
	spec := vmSpec{guestNature: defaultNature}
	if err := decode(r, &spec); err != nil {
		return nil, err
	}
	return l.makeVM(&spec)
}

func (l *lab) patchVM(r *http.Request) (any, error) {
	vm, err := l.findVM(r.PathValue("vm"))
	if err != nil {
		return nil, err
	}
	m := l.machine(vm.Self)
	l.mu.Lock()
	nature := m.guest
	l.mu.Unlock()
	if err := decode(r, &nature); err != nil {
		return nil, err
	}
	return nature, l.setNature(vm, nature)
}

func (l *lab) deleteVM(r *http.Request) (any, error) {
	vm, err := l.findVM(r.PathValue("vm"))
	if err != nil {
		return nil, err
	}
	task, err := object.NewVirtualMachine(l.client, vm.Self).Destroy(adminContext())
	if err != nil {
		return nil, err
	}
	return nil, task.Wait(adminContext())
}

func (l *lab) postPower(r *http.Request) (any, error) {
	var body struct {
		State string `json:"state"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	vm, err := l.findVM(r.PathValue("vm"))
	if err != nil {
		return nil, err
	}
	return nil, l.setPower(vm, body.State)
}

func (l *lab) putDisk(r *http.Request) (any, error) {
	var body struct {
		File string `json:"file"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	vm, err := l.findVM(r.PathValue("vm"))
	if err != nil {
		return nil, err
	}
	key, err := strconv.ParseInt(r.PathValue("key"), 10, 32)
	if err != nil {
		return nil, err
	}
	if object.VirtualDeviceList(vm.Config.Hardware.Device).FindByKey(int32(key)) == nil {
		return nil, fmt.Errorf("%s has no device %d", vm.Name, key)
	}
	return nil, l.setDiskFile(vm.Self, int32(key), body.File)
}

func (l *lab) postFault(r *http.Request) (any, error) {
	order := new(fault)
	if err := decode(r, order); err != nil {
		return nil, err
	}
	if err := order.check(); err != nil {
		return nil, err
	}
	l.faults.add(order)
	return map[string]int{"id": order.ID}, nil
}

// expireLeases lets the leases of one VM, or of all, time out now.
func (l *lab) expireLeases(r *http.Request) (any, error) {
	var body struct {
		VM string `json:"vm"`
	}
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	for _, candidate := range l.allLeases() {
		if body.VM == "" || body.VM == candidate.vmName || body.VM == candidate.vm.Value {
			candidate.expire()
		}
	}
	return nil, nil
}

// expireSessions makes the server forget every session, as after 30 minutes of idleness.
func (l *lab) expireSessions(*http.Request) (any, error) {
	var keys []string
	for _, session := range l.sessions() {
		keys = append(keys, session.Key)
	}
	manager := l.model.Map().SessionManager()
	manager.TerminateSession(l.background(), &types.TerminateSession{SessionId: keys})
	return map[string]int{"expired": len(keys)}, nil
}

func (l *lab) cutConnections(*http.Request) (any, error) {
	l.vcenter.cut()
	l.esxi.cut()
	return nil, nil
}
