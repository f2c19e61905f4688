package daemon

import (
	"fmt"
	"slices"
	"strings"
)

// unified returns the difference of two texts in the unified format of diff(1), ""
// if there is none.
func unified(path, before, after string) string {
	a, b := slices.Collect(strings.Lines(before)), slices.Collect(strings.Lines(after))
	edits := edit(a, b)
	const context = 3
	var out strings.Builder
	for i := 0; i < len(edits); {
		if edits[i].kind == ' ' {
			i++
			continue
		}
		from, to := max(0, i-context), i // to: behind the last change of this hunk
		for j := i; j < len(edits) && j < to+2*context+1; j++ {
			if edits[j].kind != ' ' {
				to = j + 1
			}
		}
		i = to
		to = min(len(edits), to+context)
		hunk := edits[from:to]
		if out.Len() == 0 {
			fmt.Fprintf(&out, "--- %s\n+++ %s (formatted)\n", path, path)
		}
		olds, news := 0, 0
		for _, e := range hunk {
			if e.kind != '+' {
				olds++
			}
			if e.kind != '-' {
				news++
			}
		}
		fmt.Fprintf(&out, "@@ -%s +%s @@\n", span(hunk[0].old, olds), span(hunk[0].new, news))
		for _, e := range hunk {
			out.WriteString(string(e.kind) + strings.TrimSuffix(e.line, "\n") + "\n")
			if !strings.HasSuffix(e.line, "\n") {
				out.WriteString("\\ No newline at end of file\n")
			}
		}
	}
	return out.String()
}

// span writes the lines of a hunk. One without lines is named by the line before it.
func span(first, n int) string {
	if n > 0 {
		first++
	}
	if n == 1 {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d,%d", first, n)
}

// edited is a line that is in both texts (' '), in the old one ('-') or in the new one
// ('+'), with the number of lines before it in each.
type edited struct {
	kind     byte
	line     string
	old, new int
}

// maxTable bounds the memory of a comparison, in cells. Texts that differ in more lines
// are shown as replaced.
const maxTable = 4 << 20

// edit returns how a becomes b, with as many common lines as there are.
func edit(a, b []string) []edited {
	var out []edited
	add := func(kind byte, line string) {
		e := edited{kind: kind, line: line}
		if n := len(out); n > 0 {
			l := out[n-1]
			e.old, e.new = l.old, l.new
			if l.kind != '+' {
				e.old++
			}
			if l.kind != '-' {
				e.new++
			}
		}
		out = append(out, e)
	}
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		add(' ', a[0])
		a, b = a[1:], b[1:]
	}
	n, m := len(a), len(b)
	for n > 0 && m > 0 && a[n-1] == b[m-1] {
		n, m = n-1, m-1
	}
	common := a[n:]
	a, b = a[:n], b[:m]
	// length[i][j]: of the longest common subsequence of a[i:] and b[j:].
	var length [][]int32
	if (n+1)*(m+1) <= maxTable {
		length = make([][]int32, n+1)
		for i := n; i >= 0; i-- {
			length[i] = make([]int32, m+1)
			for j := m - 1; j >= 0 && i < n; j-- {
				if a[i] == b[j] {
					length[i][j] = length[i+1][j+1] + 1
				} else {
					length[i][j] = max(length[i+1][j], length[i][j+1])
				}
			}
		}
	}
	i, j := 0, 0
	for i < n || j < m {
		switch {
		case i < n && j < m && a[i] == b[j] && length != nil:
			add(' ', a[i])
			i, j = i+1, j+1
		case i < n && (j == m || length == nil || length[i+1][j] >= length[i][j+1]):
			add('-', a[i])
			i++
		default:
			add('+', b[j])
			j++
		}
	}
	for _, line := range common {
		add(' ', line)
	}
	return out
}
