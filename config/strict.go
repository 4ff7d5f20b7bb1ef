package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"caravel/chunker"
	"caravel/internal/nearest"
	"caravel/internal/redact"
)

// decode reads JSON into a struct, or a map of structs by string, and is strict where
// encoding/json is not: keys are written as they are declared, none is unknown, and
// none comes twice.
func decode(content []byte, to any) error {
	if err := decodeValue(content, reflect.ValueOf(to).Elem()); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(content))
	var whole json.RawMessage
	if err := d.Decode(&whole); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the configuration")
	}
	return nil
}

func decodeValue(content []byte, to reflect.Value) error {
	_, own := to.Addr().Interface().(json.Unmarshaler)
	null := bytes.Equal(bytes.TrimSpace(content), []byte("null"))
	switch {
	case null: // as desync writes it where there is nothing
		return nil
	case !own && to.Kind() == reflect.Struct:
		return decodeStruct(content, to)
	case !own && to.Kind() == reflect.Map && to.Type().Elem().Kind() == reflect.Struct:
		return decodeMap(content, to)
	}
	return said(json.Unmarshal(content, to.Addr().Interface()))
}

func decodeStruct(content []byte, to reflect.Value) error {
	known := map[string]reflect.Value{}
	fields(to, known)
	return members(content, func(key string, value []byte) error {
		field, ok := known[key]
		if !ok {
			return unknown(key, known)
		}
		if err := decodeValue(value, field); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	})
}

func unknown(key string, known map[string]reflect.Value) error {
	var words []string
	for word := range known {
		words = append(words, word)
	}
	if meant := nearest.Word(key, words); meant != "" {
		return fmt.Errorf("unknown key %q (did you mean %s?)", key, meant)
	}
	return fmt.Errorf("unknown key %q", key)
}

// fields are those of a struct by their keys, with those of the structs in it.
func fields(of reflect.Value, to map[string]reflect.Value) {
	for i := range of.NumField() {
		field := of.Type().Field(i)
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous:
			fields(of.Field(i), to)
		case key != "-":
			to[key] = of.Field(i)
		}
	}
}

func decodeMap(content []byte, to reflect.Value) error {
	to.Set(reflect.MakeMap(to.Type()))
	return members(content, func(key string, value []byte) error {
		element := reflect.New(to.Type().Elem()).Elem()
		if err := decodeValue(value, element); err != nil {
			return fmt.Errorf("%q: %w", redact.URL(key), err)
		}
		to.SetMapIndex(reflect.ValueOf(key), element)
		return nil
	})
}

// members calls f with each member of a JSON object.
func members(content []byte, f func(key string, value []byte) error) error {
	d := json.NewDecoder(bytes.NewReader(content))
	open, err := d.Token()
	if err != nil {
		return said(err)
	}
	if open != json.Delim('{') {
		return errors.New("want an object: {…}")
	}
	seen := map[string]bool{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return said(err)
		}
		name := key.(string) // More would have said no, or Token failed
		if seen[name] {
			return fmt.Errorf("key %q comes twice", redact.URL(name))
		}
		seen[name] = true
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return said(err)
		}
		if err := f(name, value); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return said(err)
}

// said is what encoding/json says, in the user's words and without the value, which
// may be a secret.
func said(err error) error {
	var kind *json.UnmarshalTypeError
	switch {
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the JSON breaks off")
	case !errors.As(err, &kind):
		return err
	}
	what := map[reflect.Kind]string{reflect.Bool: "true or false", reflect.Int: "a number", reflect.String: "a string", reflect.Map: "an object: {…}", reflect.Slice: "a list: […]"}
	return fmt.Errorf("want %s", what[kind.Type.Kind()])
}

// UnmarshalJSON reads nanoseconds, or what time.ParseDuration does.
func (d *Duration) UnmarshalJSON(content []byte) error {
	var nanoseconds int64
	if json.Unmarshal(content, &nanoseconds) == nil {
		*d = Duration(nanoseconds)
		return nil
	}
	var text string
	if json.Unmarshal(content, &text) == nil {
		parsed, err := time.ParseDuration(text)
		if err == nil {
			*d = Duration(parsed)
			return nil
		}
	}
	return errors.New(`want a number of nanoseconds, or a time such as "90s"`)
}

// UnmarshalJSON reads a number of bytes, or what casync takes for one.
func (b *Bytes) UnmarshalJSON(content []byte) error {
	var n int64
	if json.Unmarshal(content, &n) == nil && n > 0 {
		*b = Bytes(n)
		return nil
	}
	var text string
	if json.Unmarshal(content, &text) == nil {
		parsed, err := chunker.ParseSize(text)
		if err == nil && parsed > 0 {
			*b = Bytes(parsed)
			return nil
		}
	}
	return errors.New(`want a number of bytes above 0, or one such as "10M"`)
}
