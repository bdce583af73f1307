package main

import (
	"encoding/json"
	"testing"

	"github.com/fastworker/fastworker/guest-sdk/go/fastworkertest"
)

const orders = `[
	{"customer": "ada", "placed": "2026-01-02T03:04:05Z", "lines": [{"sku": "tea", "quantity": 2, "price": 4.5}]},
	{"customer": "bob", "lines": [{"sku": "tea", "quantity": 1, "price": 4.5}]},
	{"customer": "ada", "placed": "2026-01-01T00:00:00Z", "lines": [{"sku": "jam", "quantity": 1, "price": 3}]}]`

func TestOrdersAreAddedUpByCustomer(t *testing.T) {
	got := fastworkertest.Run(t, "summarize", json.RawMessage(orders))
	want := `[{"customer":"ada","orders":2,"total":12,"articles":{"jam":1,"tea":2},"last_order":"2026-01-02T03:04:05Z"},` +
		`{"customer":"bob","orders":1,"total":4.5,"articles":{"tea":1}}]`
	if got.Result != want {
		t.Errorf("%s %+v", got.Result, got.Failure)
	}
}

func TestCustomersBelowTheMinimumAreLeftOut(t *testing.T) {
	if got := fastworkertest.Run(t, "summarize", json.RawMessage(orders), 100); got.Result != "[]" {
		t.Errorf("%+v", got)
	}
}

func TestAnOrderHasACustomer(t *testing.T) {
	got := fastworkertest.Run(t, "summarize", json.RawMessage(`[{"customer": "", "lines": []}]`))
	if got.Failure == nil || got.Failure.Case != fastworkertest.BadArguments {
		t.Errorf("%+v", got)
	}
}
