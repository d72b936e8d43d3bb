package main

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"
)

// labOptions is what the command line decides.
type labOptions struct {
	Username    string
	Password    string
	APIVersion  string
	Datacenters int
	Folders     int
	Machines    int
	ESX         bool
}

// settings are the knobs that a test may turn at any time (PATCH /settings).
type settings struct {
	// LeaseInitializingSeconds is how long a new lease is `initializing`.
	LeaseInitializingSeconds float64 `json:"lease_initializing_seconds"`
	// LeaseTimeoutSeconds is how long a lease lives without a Progress call.
	LeaseTimeoutSeconds float64 `json:"lease_timeout_seconds"`
	// NFCHost says whose URL a lease gives: `esxi` (a host of another name, port and certificate: what a
	// vCenter does), `star` (`*`: what an ESXi host does), `vcenter` (its own).
	NFCHost string `json:"nfc_host"`
	// NFCHostName is the host name in that URL, unless it is `*`.
	NFCHostName string `json:"nfc_host_name"`
	// Thumbprint is the style of sslThumbprint: `sha1`, `sha256`, `none` or `wrong`.
	Thumbprint string `json:"thumbprint"`
	// LeaseCertificate adds sslCertificate (seen by clients only from API 9.0 on).
	LeaseCertificate bool `json:"lease_certificate"`
	// Down makes both servers reset every connection.
	Down bool `json:"down"`
}

// lab is the whole program: the simulator, its two HTTPS servers, the control API, and what it remembers.
type lab struct {
	options labOptions
	model   *simulator.Model
	service *simulator.Service
	client  *vim25.Client
	pki     *pki

	vcenter         *tlsServer
	esxi            *tlsServer
	control         *http.Server
	controlListener net.Listener

	faults *faultBook

	mu       sync.Mutex
	settings settings
	username string
	password string
	machines map[types.ManagedObjectReference]*machine
	leases   []*lease
	calls    map[string]int
	logins   int
	refused  int
	// insideSession is the key of the session in which the lab calls its own simulator.
	insideSession string
}

type adminKey struct{}

// adminContext marks calls that come from the control API: they are not counted, refused or delayed.
func adminContext() context.Context { return context.WithValue(context.Background(), adminKey{}, true) }

func isAdmin(ctx context.Context) bool { return ctx != nil && ctx.Value(adminKey{}) != nil }

func newLab(options labOptions) (*lab, error) {
	l := &lab{
		options:  options,
		username: options.Username,
		password: options.Password,
		faults:   newFaultBook(),
		machines: map[types.ManagedObjectReference]*machine{},
		calls:    map[string]int{},
		settings: settings{
			LeaseInitializingSeconds: 0.2,
			LeaseTimeoutSeconds:      300, // a real vCenter's
			NFCHost:                  "esxi",
			NFCHostName:              "localhost",
			Thumbprint:               "sha1",
		},
	}
	if options.ESX {
		l.settings.NFCHost = "star"
	}
	if err := l.createInventory(); err != nil {
		return nil, err
	}
	if err := l.startServers(); err != nil {
		l.model.Remove()
		return nil, err
	}
	return l, nil
}

func (l *lab) createInventory() error {
	model := simulator.VPX()
	if l.options.ESX {
		model = simulator.ESX()
	} else {
		model.Datacenter = l.options.Datacenters
		model.Folder = l.options.Folders
		model.Cluster = 0 // one standalone host per datacenter carries everything
	}
	model.Machine = l.options.Machines

	about := &model.ServiceContent.About
	about.ApiVersion = l.options.APIVersion
	about.Version = "8.0.3"
	about.Build = "24022515"
	about.FullName = about.Name + " " + about.Version + " build-" + about.Build

	if err := model.Create(); err != nil {
		return err
	}
	l.model, l.service = model, model.Service
	client, err := vim25.NewClient(adminContext(), l.service)
	if err != nil {
		return err
	}
	l.client = client

	registry := model.Map()
	registry.Put(newGate(l))
	registry.AddHandler(&powerWatch{lab: l})
	registry.Handler = l.handle
	return nil
}

func (l *lab) startServers() error {
	var err error
	if l.pki, err = newPKI(); err != nil {
		return err
	}
	names := []string{"localhost", "127.0.0.1"}
	own, err := l.pki.issue(names, false)
	if err != nil {
		return err
	}
	hosts, err := l.pki.issue(names, false)
	if err != nil {
		return err
	}
	nfc := http.HandlerFunc(l.serveNFC)

	registry := l.model.Map()
	l.service.RegisterSDK(registry, registry.Path+"/vimService")
	mux := l.service.ServeMux
	mux.HandleFunc(registry.Path+"/vimServiceVersions.xml", l.service.ServiceVersions)
	mux.HandleFunc("/folder/", l.service.ServeDatastore)
	mux.Handle("/nfc/", nfc)
	if l.vcenter, err = startTLS(l.outage(l.sdkFaults(mux)), own); err != nil {
		return err
	}
	hostMux := http.NewServeMux()
	hostMux.Handle("/nfc/", nfc)
	if l.esxi, err = startTLS(l.outage(hostMux), hosts); err != nil {
		return err
	}

	// What simulator.NewServer would have set, had it opened the port.
	l.service.Listen = &url.URL{
		Scheme: "https",
		Host:   l.vcenter.listener.Addr().String(),
		Path:   registry.Path,
		User:   url.UserPassword(l.username, l.password),
	}
	sessions := registry.SessionManager()
	sessions.ServiceHostName = l.service.Listen.Host
	sessions.ValidLogin = l.validLogin
	registry.OptionManager().UpdateOptions(&types.UpdateOptions{ChangedValue: []types.BaseOptionValue{
		&types.OptionValue{Key: "vcsim.server.url", Value: l.sdkURL()},
	}})

	l.controlListener, l.control, err = startHTTP(l.controlAPI())
	return err
}

func (l *lab) close() {
	_ = l.control.Close()
	l.vcenter.close()
	l.esxi.close()
	l.model.Remove()
}

func (l *lab) sdkURL() string     { return "https://127.0.0.1:" + l.vcenter.port() + "/sdk" }
func (l *lab) controlURL() string { return "http://" + l.controlListener.Addr().String() }

func (l *lab) knobs() settings {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.settings
}

func (l *lab) validLogin(request *types.Login) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if request.UserName == l.username && request.Password == l.password {
		l.logins++
		return true
	}
	l.refused++
	return false
}

// background returns a context of the simulator for work that no request waits for.
//
// The simulator's locks belong to a context, so every piece of work needs one of its own.
func (l *lab) background() *simulator.Context {
	ctx := *l.service.Context
	ctx.Context = adminContext()
	return &ctx
}

func (l *lab) finder() *find.Finder { return find.NewFinder(l.client, false) }

func quoted(n int32) string { return strconv.FormatInt(int64(n), 10) }
