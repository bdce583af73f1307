// JSON in, other JSON out: the types of Go are the schema of both.
//
//	fastworker build examples/tasks/go-orders
//	fastworker dev examples/tasks/go-orders/go-orders.wasm summarize '[{"customer": "ada", "lines": [{"sku": "tea", "quantity": 2, "price": 4.5}]}]'
package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/fastworker/fastworker/guest-sdk/go/fastworker"
)

// An Order is what the shop exports.
type Order struct {
	Customer string    `json:"customer"`
	Placed   time.Time `json:"placed,omitzero"`
	Lines    []Line    `json:"lines"`
}

// A Line is one article of an order.
type Line struct {
	SKU      string  `json:"sku"`
	Quantity uint    `json:"quantity"`
	Price    float64 `json:"price"`
}

// A Customer is what the report shows.
type Customer struct {
	Customer string          `json:"customer"`
	Orders   int             `json:"orders"`
	Total    float64         `json:"total"`
	Articles map[string]uint `json:"articles"`
	// LastOrder is missing if no order has a time.
	LastOrder *time.Time `json:"last_order,omitempty"`
}

func init() { fastworker.Task("summarize", summarize, fastworker.Default("minimum", 0.0)) }

func main() {}

// summarize adds up the orders of each customer, the largest total first. Customers below the minimum are left out.
func summarize(orders []Order, minimum float64) ([]*Customer, error) {
	customers := map[string]*Customer{}
	for number, order := range orders {
		if order.Customer == "" {
			return nil, fastworker.BadArguments("argument 'orders': order %d has no customer", number)
		}
		customer := customers[order.Customer]
		if customer == nil {
			customer = &Customer{Customer: order.Customer, Articles: map[string]uint{}}
			customers[order.Customer] = customer
		}
		customer.add(order)
		fastworker.Progress(uint64(number+1), uint64(len(orders)), "adding up")
	}
	return report(customers, minimum), nil
}

func (c *Customer) add(order Order) {
	c.Orders++
	for _, line := range order.Lines {
		c.Total += float64(line.Quantity) * line.Price
		c.Articles[line.SKU] += line.Quantity
	}
	if c.LastOrder == nil && !order.Placed.IsZero() || c.LastOrder != nil && order.Placed.After(*c.LastOrder) {
		c.LastOrder = &order.Placed
	}
}

func report(customers map[string]*Customer, minimum float64) []*Customer {
	list := []*Customer{}
	for _, customer := range customers {
		if customer.Total >= minimum {
			list = append(list, customer)
		}
	}
	slices.SortFunc(list, func(a, b *Customer) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Customer, b.Customer))
	})
	return list
}
