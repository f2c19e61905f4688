package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sasyncd/tests/gate"
)

// checkout is a work tree of git.
type checkout struct{ dir string }

// change is a file that differs from the commit.
type change struct{ state, path string } // state as of git status --porcelain

func (c change) String() string { return c.state + " " + c.path }

func (c checkout) git(args ...string) (string, error) {
	cmd := exec.Command("git", append([]string{"-C", c.dir}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// head returns the commit that is checked out.
func (c checkout) head() (string, error) {
	out, err := c.git("rev-parse", "--verify", "HEAD")
	return strings.TrimSpace(out), err
}

// tree returns the tree of a commit.
func (c checkout) tree(commit string) (*gate.Tree, error) {
	out, err := c.git("ls-tree", "-r", "-z", commit)
	if err != nil {
		return nil, err
	}
	files, err := gate.ParseFiles(out)
	if err != nil {
		return nil, err
	}
	makefile, err := c.git("show", commit+":Makefile")
	if err != nil {
		return nil, err
	}
	return gate.NewTree(files, makefile), nil
}

// changes returns what differs from the commit: what git status --porcelain says,
// with each untracked file by itself.
func (c checkout) changes() ([]change, error) {
	out, err := c.git("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all")
	if err != nil {
		return nil, err
	}
	return parseStatus(out)
}

func parseStatus(out string) ([]change, error) {
	var list []change
	for entry := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		if entry == "" {
			continue
		}
		if len(entry) < 4 || entry[2] != ' ' {
			return nil, fmt.Errorf("git status says %q, which is no change of a file", entry)
		}
		list = append(list, change{entry[:2], entry[3:]})
	}
	return list, nil
}

// setAside moves changed files to a folder outside of what git sees, and puts the
// commit's own files in their place.
func (c checkout) setAside(list []change, to string) error {
	for _, ch := range list {
		err := copyFile(filepath.Join(c.dir, ch.path), filepath.Join(to, ch.path))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // the change may be that it is gone
			return err
		}
		if ch.state == "??" {
			err = os.Remove(filepath.Join(c.dir, ch.path))
		} else {
			_, err = c.git("restore", "--source=HEAD", "--staged", "--worktree", "--", ":(literal)"+ch.path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// putBack copies the files of a folder, which need not exist, to where they belong.
func (c checkout) putBack(from string) error {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		return copyFile(path, filepath.Join(c.dir, rel))
	})
	if errors.Is(err, fs.ErrNotExist) {
		if _, gone := os.Stat(from); errors.Is(gone, fs.ErrNotExist) {
			return nil
		}
	}
	return err
}

// copyFile copies a regular file with its mode, and makes the folders that it needs.
func copyFile(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", from)
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return writeFile(to, b, info.Mode().Perm())
}

// writeFile replaces a file as a whole, so that an interruption leaves the old one or
// the new one.
func writeFile(path string, b []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	next := path + ".new"
	if err := os.WriteFile(next, b, mode); err != nil {
		return err
	}
	return os.Rename(next, path)
}
