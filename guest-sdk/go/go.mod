module github.com/fastworker/fastworker/guest-sdk/go

go 1.24
