// Command reader reads an image from a URL as Longhorn's backing-image data source does, and tells what it
// saw as one line of JSON on standard output: a HEAD for the length, then one GET without ranges through
// net/http's own transport, which offers gzip on the GET (never on the HEAD) and inflates what comes; every
// status but 200 is an error, and so is a body of another length than the HEAD promised.
//
// The URL is a secret: it is given on standard input, and no message contains it.
//
// Source of the manners: longhorn/backing-image-manager, pkg/sync/handler.go.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// report is what is printed.
type report struct {
	Length   int64   `json:"length"`           // what HEAD promised
	Bytes    int64   `json:"bytes"`            // what the GET gave, inflated
	Received int64   `json:"received"`         // what came over the wire for the GET, with headers
	Inflated bool    `json:"inflated"`         // it came as gzip
	Seconds  float64 `json:"seconds"`          // from the GET to the end of its body
	SHA256   string  `json:"sha256,omitempty"` // of the bytes
}

type options struct {
	gzip      bool
	hash      bool
	rate      float64
	buffer    int
	silence   time.Duration
	output    string
	writeZero bool
}

func main() {
	log.SetFlags(0)
	var o options
	flag.BoolVar(&o.gzip, "gzip", true, "offer gzip, as net/http does by itself")
	flag.BoolVar(&o.hash, "sha256", true, "compute the SHA-256 of the bytes")
	flag.Float64Var(&o.rate, "rate", 0, "limit of the link in bytes per second; 0: none")
	flag.IntVar(&o.buffer, "buffer", 4096, "bytes per read; Longhorn's are 4096")
	flag.DurationVar(&o.silence, "silence", 30*time.Second, "give up when no byte came for so long")
	flag.StringVar(&o.output, "output", "", "write the bytes to this file")
	flag.BoolVar(&o.writeZero, "write-zeros", false, "write zeros too, instead of leaving holes")
	flag.Parse()

	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil && err != io.EOF {
		log.Fatal(err)
	}
	result, err := read(strings.TrimSpace(line), o)
	if err != nil {
		log.Fatal(withoutURL(err))
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		log.Fatal(err)
	}
}

// withoutURL takes away the address that net/http puts before its errors.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return fmt.Errorf("%s: %w", wrapped.Op, wrapped.Err)
	}
	return err
}

func read(address string, o options) (*report, error) {
	link := &link{bytesPerSecond: o.rate}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = !o.gzip
	transport.DialContext = link.dial
	client := &http.Client{Transport: transport}

	length, err := head(client, address)
	if err != nil {
		return nil, err
	}
	link.received.Store(0)
	started := time.Now()
	response, err := client.Get(address)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("expected status code 200, got %s", response.Status)
	}
	target, err := newSink(o)
	if err != nil {
		return nil, err
	}
	count, err := target.copy(response.Body, o)
	if err != nil {
		return nil, err
	}
	result := &report{
		Length:   length,
		Bytes:    count,
		Received: link.received.Load(),
		Inflated: response.Uncompressed,
		Seconds:  time.Since(started).Seconds(),
	}
	if target.digest != nil {
		result.SHA256 = hex.EncodeToString(target.digest.Sum(nil))
	}
	if err := target.close(count); err != nil {
		return nil, err
	}
	if length >= 0 && count != length {
		return nil, fmt.Errorf("got %d bytes, where HEAD promised %d", count, length)
	}
	return result, nil
}

func head(client *http.Client, address string) (int64, error) {
	response, err := client.Head(address)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("expected status code 200, got %s", response.Status)
	}
	return response.ContentLength, nil
}

// A sink takes the bytes: counts them, and as asked, hashes them and writes them to a file.
type sink struct {
	digest    hash.Hash
	file      *os.File
	writeZero bool
}

func newSink(o options) (*sink, error) {
	s := &sink{writeZero: o.writeZero}
	if o.hash {
		s.digest = sha256.New()
	}
	if o.output != "" {
		file, err := os.Create(o.output)
		if err != nil {
			return nil, err
		}
		s.file = file
	}
	return s, nil
}

func (s *sink) copy(body io.ReadCloser, o options) (int64, error) {
	watchdog := time.AfterFunc(o.silence, func() { body.Close() })
	defer watchdog.Stop()
	buffer, zeros := make([]byte, o.buffer), make([]byte, o.buffer)
	var total int64
	for {
		count, err := body.Read(buffer)
		if count > 0 {
			watchdog.Reset(o.silence)
			total += int64(count)
			if handled := s.take(buffer[:count], zeros[:count]); handled != nil {
				return total, handled
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

func (s *sink) take(piece, zeros []byte) error {
	if s.digest != nil {
		s.digest.Write(piece)
	}
	if s.file == nil {
		return nil
	}
	if !s.writeZero && bytes.Equal(piece, zeros) {
		_, err := s.file.Seek(int64(len(piece)), io.SeekCurrent)
		return err
	}
	_, err := s.file.Write(piece)
	return err
}

func (s *sink) close(size int64) error {
	if s.file == nil {
		return nil
	}
	if err := s.file.Truncate(size); err != nil {
		s.file.Close()
		return err
	}
	return s.file.Close()
}
