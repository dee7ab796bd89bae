package attach

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// open shows an item, or, where it is compressed, what is in it.
func (f *finder) open(i Item) error {
	br := bufio.NewReaderSize(i.Content, 4096)
	begin, _ := br.Peek(sniffed)
	switch {
	case isGzip(begin):
		return f.gunzip(i.Name, br)
	case isZip(begin):
		return f.unzip(br)
	}
	i.Content = &limited{r: br, left: MaxContent, what: "a report"}
	return f.show(i)
}

func (f *finder) gunzip(name string, r io.Reader) error {
	in := &counter{r: r}
	z, err := gzip.NewReader(in)
	if err != nil {
		return fmt.Errorf("open gzip: %w", classed(err))
	}
	return f.inner(Item{Name: name, Content: &limited{r: z, left: MaxContent, what: "a report", in: func() int64 { return in.n }}})
}

// inner shows what was compressed, which must not be compressed again.
func (f *finder) inner(i Item) error {
	br := bufio.NewReaderSize(i.Content, 4096)
	begin, err := br.Peek(sniffed)
	if err != nil && err != io.EOF {
		return err
	}
	if isCompressed(begin) {
		return fmt.Errorf("%w: compressed within compressed", ErrMalformed)
	}
	i.Content = br
	if i.Kind = sniff(begin); i.Kind == "" {
		f.types = append(f.types, "compressed content that is neither XML nor JSON")
		return nil
	}
	return f.show(i)
}

// directoryEntry begins each entry of a zip archive's directory.
var directoryEntry = []byte("PK\x01\x02")

func (f *finder) unzip(r io.Reader) error {
	// The directory is at the end, so that an archive cannot be streamed.
	data, err := io.ReadAll(&counter{r: r})
	if err != nil {
		return fmt.Errorf("open zip: %w", classed(err))
	}
	// Counted before zip.NewReader reads the directory into memory.
	if bytes.Count(data, directoryEntry) > MaxEntries {
		return fmt.Errorf("%w: a zip archive of more than %d files", ErrTooLarge, MaxEntries)
	}
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // names go nowhere near a file system
		return fmt.Errorf("open zip: %w", classed(err))
	}
	for _, file := range archive.File {
		if file.FileInfo().IsDir() {
			continue
		}
		if err := f.unzipFile(file); err != nil {
			return err
		}
	}
	return nil
}

func (f *finder) unzipFile(file *zip.File) error {
	r, err := file.Open()
	if err != nil {
		return fmt.Errorf("open zip: %w", classed(err))
	}
	defer r.Close()
	size := int64(min(file.CompressedSize64, MaxCompressed))
	return f.inner(Item{Name: file.Name, Content: &limited{r: r, left: MaxContent, what: "a report", in: func() int64 { return size }}})
}
