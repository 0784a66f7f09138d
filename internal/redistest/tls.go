package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// identity is an authority and one certificate of it for all servers of a test
// binary, in the form of files.
type identity struct {
	pool          *x509.CertPool
	ca, cert, key []byte // PEM
}

// newIdentity makes an identity. Its certificates are valid for a century, so that they do not
// expire in a test that changes the clock.
var newIdentity = sync.OnceValues(func() (*identity, error) {
	from, to := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redistest authority"}, NotBefore: from, NotAfter: to,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "redistest server"}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature,
		// Replicas and the nodes of a cluster are each other's clients.
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	id := &identity{
		pool: x509.NewCertPool(),
		ca:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}),
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}),
	}
	id.pool.AppendCertsFromPEM(id.ca)
	return id, nil
})

// CA returns the authority that signed the certificates of servers started with
// [TLS]: the RootCAs of a client that verifies them.
func CA() (*x509.CertPool, error) {
	id, err := newIdentity()
	if err != nil {
		return nil, fmt.Errorf("redistest: make certificates: %w", err)
	}
	return id.pool, nil
}

// clientTLS is for clients of servers started with TLS. There is no error to
// return: without an identity there are no such servers.
func clientTLS() *tls.Config {
	pool, err := CA()
	if err != nil {
		pool = x509.NewCertPool() // no authority
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// writeIdentity writes the files for a server, and returns the settings that name them, without
// the leading dashes.
func writeIdentity(dir string) ([][2]string, error) {
	id, err := newIdentity()
	if err != nil {
		return nil, fmt.Errorf("redistest: make certificates: %w", err)
	}
	var settings [][2]string
	for _, f := range []struct {
		setting, name string
		text          []byte
	}{
		{"tls-ca-cert-file", "ca.pem", id.ca},
		{"tls-cert-file", "cert.pem", id.cert},
		{"tls-key-file", "key.pem", id.key},
	} {
		path := filepath.Join(dir, f.name)
		if err := os.WriteFile(path, f.text, 0o600); err != nil {
			return nil, err
		}
		settings = append(settings, [2]string{f.setting, path})
	}
	return append(settings, [2]string{"tls-auth-clients", "no"}, [2]string{"tls-replication", "yes"}), nil
}
