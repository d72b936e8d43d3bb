package main

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

// A link makes connections that receive at a limited rate, as over a slower network.
type link struct {
	bytesPerSecond float64 // 0: no limit
	received       atomic.Int64
}

// window is what arrives while the client is busy with what it has: the receive window. Linux lets it grow to
// three times as much.
const window = 1 << 20

func (l *link) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if l.bytesPerSecond > 0 {
		if err := conn.(*net.TCPConn).SetReadBuffer(window); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return &limitedConn{Conn: conn, link: l, due: time.Now()}, nil
}

// duration returns how long the link takes for so many bytes.
func (l *link) duration(count int) time.Duration {
	return time.Duration(float64(count) / l.bytesPerSecond * float64(time.Second))
}

// Sleeping is not exact: shorter debts are left standing.
const shortestSleep = time.Millisecond

// limitedConn is a connection over a link. It is read by one goroutine (net/http's).
type limitedConn struct {
	net.Conn
	link *link
	due  time.Time // when the link has carried all that was received so far
}

func (c *limitedConn) Read(buffer []byte) (int, error) {
	count, err := c.Conn.Read(buffer)
	c.link.received.Add(int64(count))
	if c.link.bytesPerSecond > 0 {
		now := time.Now()
		if earliest := now.Add(-c.link.duration(window)); c.due.Before(earliest) {
			c.due = earliest
		}
		c.due = c.due.Add(c.link.duration(count))
		if debt := c.due.Sub(now); debt > shortestSleep {
			time.Sleep(debt)
		}
	}
	return count, err
}
