// Command vcsim is a vCenter for tests: govmomi's simulator used as a library, with the manners of the real
// product added where the simulator has none (ExportVm and its leases, guests that shut down slowly or not at
// all, NFC bodies from an ESXi host with a certificate of its own), and a small HTTP API by which a test builds
// inventory, looks inside and makes things fail.
//
// It listens on ports of 127.0.0.1 only, which it picks itself and, when all of them answer, writes to a file
// of JSON.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"
)

// readyFile is what a client needs to know.
type readyFile struct {
	SDKURL      string `json:"sdk_url"`
	ControlURL  string `json:"control_url"`
	Fingerprint string `json:"fingerprint"`
	CAPEM       string `json:"ca_pem"`
}

func main() {
	log.SetFlags(log.Ltime | log.Lmicroseconds)

	var options labOptions
	flag.StringVar(&options.Username, "username", "administrator@vsphere.local", "the only user that may log in")
	flag.StringVar(&options.APIVersion, "api-version", "8.0.3.0", "API version to announce")
	flag.IntVar(&options.Datacenters, "datacenters", 1, "number of datacenters (DC0, DC1, ...)")
	flag.IntVar(&options.Folders, "folders", 0, "how many of the datacenters stand inside a folder (F0, F1, ...)")
	flag.IntVar(&options.Machines, "machines", 0, "VMs that the simulator makes by itself, without bytes, per host")
	flag.BoolVar(&options.ESX, "esx", false, "be a standalone ESXi host instead of a vCenter")
	ready := flag.String("ready-file", "", "write URLs and certificates (JSON) to this file when all is ready")
	flag.Parse()
	// A password in argv would be seen by every user of the machine.
	options.Password = os.Getenv("VCSIM_PASSWORD")

	if err := run(options, *ready); err != nil {
		log.Fatal(err)
	}
}

func run(options labOptions, ready string) error {
	lab, err := newLab(options)
	if err != nil {
		return err
	}
	defer lab.close()

	content, err := json.Marshal(readyFile{
		SDKURL:      lab.sdkURL(),
		ControlURL:  lab.controlURL(),
		Fingerprint: lab.vcenter.leaf().sha256(),
		CAPEM:       string(lab.pki.caPEM),
	})
	if err != nil {
		return err
	}
	// Renamed into place, so that nobody reads half of it.
	if err := os.WriteFile(ready+".partial", content, 0o600); err != nil {
		return err
	}
	if err := os.Rename(ready+".partial", ready); err != nil {
		return err
	}

	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
	return nil
}
