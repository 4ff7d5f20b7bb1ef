package nbddev

import (
	"slices"
	"testing"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
)

// FuzzAnswers reads any answer without panic; what it finds is there.
func FuzzAnswers(f *testing.F) {
	ae := netlink.NewAttributeEncoder()
	ae.Uint32(attrIndex, 7)
	ae.Nested(attrDeviceList, func(list *netlink.AttributeEncoder) error {
		for i := range uint32(3) {
			list.Nested(deviceItem, func(item *netlink.AttributeEncoder) error {
				item.Uint32(deviceIndex, i)
				item.Uint8(deviceAttached, uint8(i%2))
				return nil
			})
		}
		return nil
	})
	whole, err := ae.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte{8, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		answers := []genetlink.Message{{Data: data}}
		index, err := indexOf(answers)
		devices, listErr := attached(answers)
		if len(devices) > len(data) {
			t.Errorf("%d devices in %d bytes", len(devices), len(data))
		}
		if slices.Equal(data, whole) && (index != 7 || err != nil || listErr != nil || !slices.Equal(devices, []int{1})) {
			t.Errorf("%d, %v; %v, %v", index, err, devices, listErr)
		}
	})
}
