package main

import (
	"crypto/sha1" //nolint:gosec // the manifest's checksum
	"io"
	"net/http"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// exportedFile is one deviceUrl of a lease and the bytes behind it.
type exportedFile struct {
	key       string // /vm-12/ParaVirtualSCSIController0:0
	id        string // disk-0.vmdk
	disk      bool
	deviceKey int32
	capacity  int64
	path      string // file on this machine
	content   []byte // when path is empty

	record *diskRecord // where transfers are counted; nil for nvram and ISO images
	sha1   []byte      // of the last body sent to its end
	sent   int64
}

const (
	// Of a slow body: small ones, so that its reader is never without news for long.
	piecesPerSecond = 4

	nvramSize = 8684 // what a BIOS VM's nvram file has
	isoSize   = 374784
)

// exportedFiles lists what a lease on the VM offers, in the order of its devices; the caller holds its lock.
func (l *lab) exportedFiles(vm *simulator.VirtualMachine) ([]*exportedFile, types.BaseMethodFault) {
	devices := object.VirtualDeviceList(vm.Config.Hardware.Device)
	records := l.machine(vm.Self)
	prefix := "/" + vm.Self.Value + "/"
	var files []*exportedFile
	add := func(file *exportedFile, extension string) {
		file.id = "disk-" + strconv.Itoa(len(files)) + extension
		files = append(files, file)
	}
	for _, device := range devices {
		switch d := device.(type) {
		case *types.VirtualDisk:
			record := l.diskRecord(records, d.Key)
			path := l.diskPath(record)
			if path == "" {
				return nil, &types.FileFault{File: backingFile(d)}
			}
			add(&exportedFile{
				key:       prefix + nfcDeviceName(devices, &d.VirtualDevice),
				disk:      true,
				deviceKey: d.Key,
				capacity:  d.CapacityInBytes,
				path:      path,
				record:    record,
			}, ".vmdk")
		case *types.VirtualCdrom:
			_, iso := d.Backing.(*types.VirtualCdromIsoBackingInfo)
			if iso && d.Connectable != nil && d.Connectable.StartConnected {
				add(&exportedFile{
					key:       prefix + nfcDeviceName(devices, &d.VirtualDevice),
					deviceKey: d.Key,
					content:   make([]byte, isoSize),
				}, ".iso")
			}
		}
	}
	add(&exportedFile{key: prefix + "nvram", content: make([]byte, nvramSize)}, ".nvram")
	return files, nil
}

// nfcDeviceName names a device as a vCenter does: type and bus of its controller, and its unit.
func nfcDeviceName(devices object.VirtualDeviceList, device *types.VirtualDevice) string {
	controller := devices.FindByKey(device.ControllerKey)
	bus := controller.(types.BaseVirtualController).GetVirtualController().BusNumber
	return reflect.TypeOf(controller).Elem().Name() + quoted(bus) + ":" + quoted(*device.UnitNumber)
}

func (l *lab) deviceURL(file *exportedFile, token string, knobs settings) types.HttpNfcLeaseDeviceUrl {
	server := l.vcenter
	host := knobs.NFCHostName
	switch knobs.NFCHost {
	case "esxi":
		server = l.esxi
	case "star":
		host = "*"
	}
	entry := types.HttpNfcLeaseDeviceUrl{
		Key:      file.key,
		Url:      "https://" + host + ":" + server.port() + "/nfc/" + token + "/" + file.id,
		Disk:     types.NewBool(file.disk),
		TargetId: file.id,
	}
	entry.SslThumbprint, _ = server.leaf().thumbprint(knobs.Thumbprint) // the style was checked when it was set
	if knobs.LeaseCertificate {
		entry.SslCertificate = server.leaf().pem()
	}
	if file.disk {
		entry.DatastoreKey = "LocalDS_0"
	} else {
		entry.FileSize = int64(len(file.content))
	}
	return entry
}

// find returns the file behind /nfc/<token>/<name> while its lease is ready.
func (l *lab) exportedFile(path string) (*lease, *exportedFile) {
	parts := strings.Split(strings.TrimPrefix(path, "/nfc/"), "/")
	if len(parts) != 2 {
		return nil, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, candidate := range l.leases {
		if candidate.token != parts[0] || candidate.state != types.HttpNfcLeaseStateReady {
			continue
		}
		for _, file := range candidate.files {
			if file.id == parts[1] {
				return candidate, file
			}
		}
	}
	return nil, nil
}

// serveNFC sends one file of a lease. As on a host: no session, no HEAD, no ranges, no Content-Length.
func (l *lab) serveNFC(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	owner, file := l.exportedFile(r.URL.Path)
	if file == nil {
		http.NotFound(w, r)
		return
	}
	order := l.faults.body(file, owner.vm.Value, owner.vmName)
	if order != nil && order.Kind == "status" {
		http.Error(w, http.StatusText(order.Status), order.Status)
		return
	}
	var source io.Reader = strings.NewReader(string(file.content))
	if file.path != "" {
		opened, err := os.Open(file.path)
		if err != nil {
			http.Error(w, "Internal Server Error", http.StatusInternalServerError)
			return
		}
		defer opened.Close()
		source = opened
	}
	l.countBody(file, func(d *diskRecord) {
		d.Gets++
		if r.Header.Get("Cookie") != "" {
			d.Cookies++
		}
	})
	w.Header().Set("Content-Type", "application/x-vnd.vmware-streamVmdk")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush() // else a short body would get a Content-Length
	l.sendBody(w, r, source, owner, file, order)
}

// sendBody copies the file and lets the fault that was ordered happen on the way.
func (l *lab) sendBody(
	w http.ResponseWriter, r *http.Request, source io.Reader, owner *lease, file *exportedFile, order *fault,
) {
	sum := sha1.New() //nolint:gosec // as above
	buffer := make([]byte, 64*1024)
	var sent int64
	for {
		select {
		case <-owner.done:
			panic(http.ErrAbortHandler) // the lease ended under the transfer
		default:
		}
		want := int64(len(buffer))
		slow := order != nil && order.Kind == "slow" && order.AfterBytes <= sent && !order.isCleared()
		if slow {
			want = min(want, max(order.BytesPerSecond/piecesPerSecond, 1))
		} else if order != nil && order.Kind == "slow" && order.AfterBytes > sent {
			want = min(want, order.AfterBytes-sent)
		} else if order != nil && order.Kind != "slow" && order.AfterBytes >= sent {
			want = min(want, order.AfterBytes-sent)
			if want == 0 && !l.spoil(r, owner, order) {
				return
			}
			if want == 0 {
				want = int64(len(buffer))
			}
		}
		n, err := source.Read(buffer[:want])
		if n > 0 {
			chunk := buffer[:n]
			if order != nil && order.Kind == "corrupt" && order.AfterBytes == sent {
				chunk[0] ^= 0xff
			}
			if _, err := w.Write(chunk); err != nil {
				return
			}
			_, _ = sum.Write(chunk)
			sent += int64(n)
			l.countBody(file, func(d *diskRecord) { d.Bytes += int64(n) })
			if slow {
				pause(r, owner, order, time.Duration(float64(n)/float64(order.BytesPerSecond)*float64(time.Second)))
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	l.mu.Lock()
	file.sha1, file.sent = sum.Sum(nil), sent
	l.mu.Unlock()
	l.countBody(file, func(d *diskRecord) { d.Completed++ })
}

// spoil does what was ordered for this place of the body and says whether the body goes on.
func (l *lab) spoil(r *http.Request, owner *lease, order *fault) bool {
	switch order.Kind {
	case "cut":
		panic(http.ErrAbortHandler)
	case "truncate":
		return false
	case "stall":
		howLong := 24 * time.Hour
		if order.DelaySeconds > 0 {
			howLong = seconds(order.DelaySeconds)
		}
		pause(r, owner, order, howLong)
	}
	return true
}

// pause waits, but not longer than the client, the lease or the order lives.
func pause(r *http.Request, owner *lease, order *fault, howLong time.Duration) {
	select {
	case <-time.After(howLong):
	case <-order.cleared:
	case <-owner.done:
		panic(http.ErrAbortHandler)
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}
