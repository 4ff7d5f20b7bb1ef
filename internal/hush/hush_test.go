package hush

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said Texts
		if !said.First("a") || said.First("a") || !said.First("b") {
			t.Error("want a and b once")
		}
		time.Sleep(quiet)
		if !said.First("a") {
			t.Error("want a again after a while")
		}
		for i := range 10 * maxTexts {
			said.First(fmt.Sprint(i))
		}
		if n := len(said.last); n > maxTexts {
			t.Errorf("%d texts are kept", n)
		}
	})
}
