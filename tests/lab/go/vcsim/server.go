package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// tlsServer is an HTTPS server on a port of 127.0.0.1 whose certificate can be exchanged while it runs.
type tlsServer struct {
	listener net.Listener
	server   *http.Server

	mu          sync.Mutex
	certificate *leaf
	connections map[net.Conn]struct{}
}

func startTLS(handler http.Handler, certificate *leaf) (*tlsServer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &tlsServer{listener: listener, certificate: certificate, connections: map[net.Conn]struct{}{}}
	s.server = &http.Server{Handler: handler, ConnState: s.track}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &s.leaf().tls, nil
		},
	}
	go func() { _ = s.server.Serve(tls.NewListener(listener, config)) }()
	return s, nil
}

func (s *tlsServer) leaf() *leaf {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.certificate
}

// present shows another certificate from now on; open connections, which have seen the old one, are cut.
func (s *tlsServer) present(certificate *leaf) {
	s.mu.Lock()
	s.certificate = certificate
	s.mu.Unlock()
	s.cut()
}

// cut breaks every open connection.
func (s *tlsServer) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for connection := range s.connections {
		_ = connection.Close()
	}
}

func (s *tlsServer) track(connection net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.connections[connection] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(s.connections, connection)
	}
}

func (s *tlsServer) port() string {
	_, port, _ := net.SplitHostPort(s.listener.Addr().String())
	return port
}

func (s *tlsServer) close() { _ = s.server.Close() }

// startHTTP serves plain HTTP on a port of 127.0.0.1: the control API.
func startHTTP(handler http.Handler) (net.Listener, *http.Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	server := &http.Server{Handler: handler, BaseContext: func(net.Listener) context.Context { return adminContext() }}
	go func() { _ = server.Serve(listener) }()
	return listener, server, nil
}
