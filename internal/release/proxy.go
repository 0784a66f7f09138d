package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	gomodule "golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// writeProxy makes a folder that serves the released modules of a version as GOPROXY=file://…,
// each from the commit of its tag, as a proxy on the network does.
func (r *repository) writeProxy(dir, version string) error {
	for _, m := range r.modules {
		if !m.released() {
			continue
		}
		escaped, err := gomodule.EscapePath(m.path())
		if err != nil {
			return err
		}
		versions := filepath.Join(dir, filepath.FromSlash(escaped), "@v")
		if err := os.MkdirAll(versions, 0o755); err != nil {
			return err
		}
		tag := m.tag(version)
		committed, err := git(r.top, "log", "-1", "--format=%cI", tag, "--")
		if err != nil {
			return err
		}
		at, err := time.Parse(time.RFC3339, committed)
		if err != nil {
			return err
		}
		info, err := json.Marshal(struct {
			Version string
			Time    time.Time
		}{version, at.UTC()})
		if err != nil {
			return err
		}
		folder := m.dir + "/"
		if m.dir == "." {
			folder = ""
		}
		mod, err := git(r.top, "show", tag+":"+folder+"go.mod")
		if err != nil {
			return err
		}
		for name, text := range map[string]string{"list": version, version + ".info": string(info), version + ".mod": mod} {
			if err := os.WriteFile(filepath.Join(versions, name), []byte(text+"\n"), 0o644); err != nil {
				return err
			}
		}
		f, err := os.Create(filepath.Join(versions, version+".zip"))
		if err != nil {
			return err
		}
		subdir := m.dir
		if subdir == "." {
			subdir = ""
		}
		err = zip.CreateFromVCS(f, gomodule.Version{Path: m.path(), Version: version}, r.top, tag, subdir)
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return err
		}
	}
	return nil
}
