package fastworker

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"testing"
)

func TestErrorsOfTheNetworkAreKnown(t *testing.T) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	for _, err := range []error{dial, &net.DNSError{Name: "x"}, &url.Error{Op: "Get", Err: dial}, fmt.Errorf("no rates: %w", dial)} {
		if !isOfNetwork(err) {
			t.Errorf("%v is of the network", err)
		}
	}
	for _, err := range []error{errors.New("x"), &url.Error{Op: "parse", Err: errors.New("x")}, GiveUp(errors.New("x"))} {
		if isOfNetwork(err) {
			t.Errorf("%v is not of the network", err)
		}
	}
}
