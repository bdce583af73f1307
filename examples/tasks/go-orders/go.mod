module go-orders

go 1.24

require github.com/fastworker/fastworker/guest-sdk/go v0.1.0

replace github.com/fastworker/fastworker/guest-sdk/go => ../../../guest-sdk/go
