package fastworker

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/fastworker/fastworker/guest-sdk/go/internal/host"
)

// Tracef adds a line to the log of the task, at level trace.
func Tracef(format string, args ...any) { logf(host.Trace, format, args) }

// Debugf adds a line to the log of the task, at level debug.
func Debugf(format string, args ...any) { logf(host.Debug, format, args) }

// Infof adds a line to the log of the task, at level info.
func Infof(format string, args ...any) { logf(host.Info, format, args) }

// Warnf adds a line to the log of the task, at level warn.
func Warnf(format string, args ...any) { logf(host.Warn, format, args) }

// Errorf adds a line to the log of the task, at level error.
func Errorf(format string, args ...any) { logf(host.Error, format, args) }

func logf(level host.Level, format string, args []any) {
	writeLog(level, fmt.Sprintf(format, args...))
}

func writeLog(level host.Level, message string) {
	if host.Current != nil {
		host.Current.Log(level, message)
	}
}

// LogHandler returns a handler of log/slog that writes to the log of the task, with levels:
//
//	slog.SetDefault(slog.New(fastworker.LogHandler()))
func LogHandler() slog.Handler {
	line := &strings.Builder{}
	omit := func(groups []string, attribute slog.Attr) slog.Attr {
		isBuiltIn := attribute.Key == slog.TimeKey || attribute.Key == slog.LevelKey || attribute.Key == slog.MessageKey
		if len(groups) == 0 && isBuiltIn {
			return slog.Attr{}
		}
		return attribute
	}
	options := &slog.HandlerOptions{Level: slog.LevelDebug - 4, ReplaceAttr: omit}
	return &logHandler{slog.NewTextHandler(line, options), line}
}

// A logHandler has a text handler write the attributes.
type logHandler struct {
	slog.Handler
	line *strings.Builder
}

func (h *logHandler) Handle(ctx context.Context, record slog.Record) error {
	h.line.Reset()
	if err := h.Handler.Handle(ctx, record); err != nil {
		return err
	}
	writeLog(levelOf(record.Level), strings.TrimSpace(record.Message+" "+h.line.String()))
	return nil
}

func (h *logHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return &logHandler{h.Handler.WithAttrs(attributes), h.line}
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{h.Handler.WithGroup(name), h.line}
}

func levelOf(level slog.Level) host.Level {
	switch {
	case level < slog.LevelDebug:
		return host.Trace
	case level < slog.LevelInfo:
		return host.Debug
	case level < slog.LevelWarn:
		return host.Info
	case level < slog.LevelError:
		return host.Warn
	}
	return host.Error
}
