package gs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/url"
	"strings"

	"caravel/store"
	"caravel/store/http"
)

// maxPage is the longest page of a listing: 1,000 names of 1,024 bytes, escaped.
const maxPage = 8 << 20

// A page is a part of a listing, in the JSON API.
type page struct {
	Items []struct {
		Name string `json:"name"`
	} `json:"items"`
	Next string `json:"nextPageToken"`
}

// List implements store.Lister with one GET for 1,000 names.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for next, more := "", true; more; {
			p, err := b.page(ctx, prefix, next)
			if err != nil {
				yield("", b.explain("", err))
				return
			}
			for _, item := range p.Items {
				name, ok := strings.CutPrefix(item.Name, b.folder)
				if ok && strings.HasPrefix(name, prefix) && !yield(name, nil) {
					return
				}
			}
			more = p.Next != "" && p.Next != next
			next = p.Next
		}
	}
}

// page asks for the names behind a mark, or the first ones.
func (b *Bucket) page(ctx context.Context, prefix, next string) (p page, err error) {
	query := url.Values{"prefix": {b.folder + prefix}, "fields": {"items(name),nextPageToken"}, "maxResults": {"1000"}}
	if next != "" {
		query.Set("pageToken", next)
	}
	web, name, err := http.Object(b.endpoint+"/storage/v1/b/"+url.PathEscape(b.name)+"/o?"+query.Encode(), b.opt)
	if err != nil {
		return p, err
	}
	body, _, err := web.Open(ctx, name, store.Range{})
	if err != nil {
		return p, err
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, maxPage+1))
	switch {
	case err != nil:
		return p, err
	case len(text) > maxPage:
		return p, fmt.Errorf("a page of a listing has more than %d bytes", maxPage)
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("malformed listing: %w", err)
	}
	return p, nil
}
