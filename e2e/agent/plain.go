package main

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/godbus/dbus/v5"
)

// plain turns a D-Bus value into what JSON can say: variants become their values, dictionaries get text keys.
func plain(v any) any {
	if variant, ok := v.(dbus.Variant); ok {
		return plain(variant.Value())
	}
	r := reflect.ValueOf(v)
	switch r.Kind() {
	case reflect.Map:
		m := make(map[string]any, r.Len())
		for it := r.MapRange(); it.Next(); {
			m[fmt.Sprint(it.Key().Interface())] = plain(it.Value().Interface())
		}
		return m
	case reflect.Slice:
		if _, isBytes := v.([]byte); isBytes {
			return v
		}
		list := make([]any, r.Len())
		for i := range list {
			list[i] = plain(r.Index(i).Interface())
		}
		return list
	}
	return v
}

// splitName parts "org.example.Interface.Member" at the last dot.
func splitName(name string) (iface, member string) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return "", name
	}
	return name[:i], name[i+1:]
}
