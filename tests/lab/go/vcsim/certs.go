package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // vSphere's thumbprints are SHA-1
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

// pki is the certificate authority of the lab: what VMCA is to a vCenter and its hosts.
type pki struct {
	caPEM []byte
	ca    *x509.Certificate
	key   *ecdsa.PrivateKey
}

// leaf is a server certificate with its key.
type leaf struct {
	tls tls.Certificate
	der []byte
}

func newPKI() (*pki, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "CA", Organization: []string{"lab vcenter"}},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(10, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &pki{caPEM: pemEncode(der), ca: ca, key: key}, nil
}

// issue makes a certificate for the names (host names or IP addresses); selfSigned leaves the CA out of it.
func (p *pki) issue(names []string, selfSigned bool) (*leaf, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: names[0]},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(2, 0, 0),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	parent, signer := p.ca, p.key
	if selfSigned {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	return &leaf{tls: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, der: der}, nil
}

// sha256 is the fingerprint as lower-case hex without colons.
func (l *leaf) sha256() string {
	sum := sha256.Sum256(l.der)
	return hex.EncodeToString(sum[:])
}

// thumbprint is the fingerprint as a lease shows it: upper-case hex with colons.
func (l *leaf) thumbprint(style string) (string, error) {
	switch style {
	case "sha1":
		sum := sha1.Sum(l.der) //nolint:gosec // as above
		return colons(sum[:]), nil
	case "sha256":
		sum := sha256.Sum256(l.der)
		return colons(sum[:]), nil
	case "wrong":
		return colons(make([]byte, sha1.Size)), nil
	case "none":
		return "", nil
	}
	return "", fmt.Errorf("unknown thumbprint style %q", style)
}

func (l *leaf) pem() string { return string(pemEncode(l.der)) }

func pemEncode(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func colons(sum []byte) string {
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // the system has no randomness: nothing can go on
	}
	return n
}
