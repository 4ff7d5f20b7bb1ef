package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"

	"github.com/urfave/cli/v2"

	"caravel/store"
)

// encryptionOptions say with what the chunks of a command's stores are encrypted.
type encryptionOptions struct {
	prefix     string // of the flags' names
	on         *bool  // nil: not said
	cipher     store.Cipher
	keyFile    string
	keyCommand string
	key        string // as it was typed, for all to see
}

// encryptionFlags are for commands that have to do with chunks. As in desync,
// what only makes sense with encryption turns it on; the environment does not.
func encryptionFlags(opt *encryptionOptions) []cli.Flag {
	return encryptionFlagsOf(opt, "the chunks in all stores are encrypted")
}

// clientEncryptionFlags are for a server of chunks: as with desync, they say how
// clients have them, and the configuration how stores do.
func clientEncryptionFlags(opt *encryptionOptions) []cli.Flag {
	return encryptionFlagsOf(opt, "clients get, and bring, chunks encrypted, whatever the stores have")
}

func encryptionFlagsOf(opt *encryptionOptions, what string) []cli.Flag {
	return []cli.Flag{
		switchFlag{&cli.GenericFlag{
			Name:  "encryption",
			Usage: what + ", with xchacha20-poly1305 or =aes-256-gcm; the key is in $CARAVEL_ENCRYPTION_KEY, or where the next two say",
			Value: &cipherSwitch{opt},
		}},
		&cli.StringFlag{Name: "encryption-key-file", Usage: "read the key, 64 hexadecimal digits, from `FILE`", Destination: &opt.keyFile},
		&cli.StringFlag{Name: "encryption-key-command", Usage: "have the shell's `COMMAND` print the key", Destination: &opt.keyCommand},
		&cli.StringFlag{Name: "encryption-key", Usage: "the key itself, which others then see: `HEX`", Destination: &opt.key, Hidden: true},
		&cli.GenericFlag{Name: "encryption-algorithm", Usage: "the `ALGORITHM` of --encryption", Value: &value[store.Cipher]{&opt.cipher, opt.parseCipher, store.Cipher.String}, Hidden: true},
	}
}

// targetEncryptionFlags are for commands that copy chunks into another store, which
// is encrypted as those that they come from are unless one of these says otherwise.
func targetEncryptionFlags(opt *encryptionOptions) []cli.Flag {
	opt.prefix = "target-"
	return []cli.Flag{
		switchFlag{&cli.GenericFlag{
			Name:        "target-encryption",
			Usage:       "as --encryption, but of the store that is written to; no: it is not encrypted",
			DefaultText: "as the others",
			Value:       &cipherSwitch{opt},
		}},
		&cli.StringFlag{Name: "target-encryption-key-file", Usage: "read that store's key from `FILE`", Destination: &opt.keyFile},
		&cli.StringFlag{Name: "target-encryption-key-command", Usage: "have the shell's `COMMAND` print that store's key", Destination: &opt.keyCommand},
	}
}

// said reports whether any of the flags was given.
func (o encryptionOptions) said() bool { return o.on != nil || o.enabled() }

// flag is the name of a flag as it is typed.
func (o encryptionOptions) flag(name string) string { return "--" + o.prefix + name }

// parseCipher reads the value of --encryption-algorithm.
func (o *encryptionOptions) parseCipher(s string) (store.Cipher, error) {
	c, err := store.ParseCipher(s)
	if err == nil && o.on == nil {
		o.on = new(true)
	}
	return c, err
}

// cipherSwitch is yes, no, or a cipher's name, which is a yes.
type cipherSwitch struct{ opt *encryptionOptions }

var _ cli.Generic = (*cipherSwitch)(nil)

func (v *cipherSwitch) Set(s string) error {
	if yes, err := parseYesNo(s); err == nil {
		v.opt.on = &yes
		return nil
	}
	c, err := store.ParseCipher(s)
	if err != nil {
		return err
	}
	v.opt.on, v.opt.cipher = new(true), c
	return nil
}

func (v *cipherSwitch) String() string {
	if v.opt == nil || v.opt.on == nil {
		return showYesNo(false)
	}
	return showYesNo(*v.opt.on)
}

// IsBoolFlag tells package flag that there may be no value.
func (*cipherSwitch) IsBoolFlag() bool { return true }

// enabled reports whether chunks are encrypted.
func (o encryptionOptions) enabled() bool {
	if o.on != nil {
		return *o.on
	}
	return o.keyFile != "" || o.keyCommand != "" || o.key != ""
}

// keyVariables are where the key is if nothing else is said.
var keyVariables = [...]string{"CARAVEL_ENCRYPTION_KEY", "DESYNC_ENCRYPTION_KEY"}

// form is f with the key; f itself if nothing is encrypted. No error says what
// was taken for the key.
func (o encryptionOptions) form(ctx context.Context, f store.Form, stderr io.Writer, log *slog.Logger) (store.Form, error) {
	if !o.enabled() {
		return f, nil
	}
	where, secret, err := o.secret(ctx, stderr, log)
	if err != nil {
		return f, err
	}
	if f.Key, err = store.ParseKey(o.cipher, secret); err != nil {
		return f, fmt.Errorf("%s: %w", where, err)
	}
	return f, nil
}

// secret finds the key's digits, and says where it did.
func (o encryptionOptions) secret(ctx context.Context, stderr io.Writer, log *slog.Logger) (where, secret string, err error) {
	given := 0
	for _, s := range []string{o.keyFile, o.keyCommand, o.key} {
		if s != "" {
			given++
		}
	}
	switch {
	case given > 1:
		return "", "", usagef("want one of %s, %s and %s", o.flag("encryption-key-file"), o.flag("encryption-key-command"), o.flag("encryption-key"))
	case o.keyFile != "":
		secret, err = readKey(o.keyFile, log)
		return o.named("encryption-key-file", secret, err)
	case o.keyCommand != "":
		secret, err = askForKey(ctx, o.keyCommand, stderr)
		return o.named("encryption-key-command", secret, err)
	case o.key != "":
		log.Warn("a key on the command line can be read by every user of this machine, and stays in the shell's history; better --encryption-key-file")
		return "--encryption-key", o.key, nil
	}
	for _, name := range keyVariables {
		if secret := os.Getenv(name); secret != "" {
			return "$" + name, secret, nil
		}
	}
	return "", "", usagef("%s: there is no key; name its file with %s, or set $%s", o.flag("encryption"), o.flag("encryption-key-file"), keyVariables[0])
}

// named adds to what was found, or not, by which flag.
func (o encryptionOptions) named(flag, secret string, err error) (string, string, error) {
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", o.flag(flag), err)
	}
	return o.flag(flag), secret, nil
}

// keyLimit is how many bytes there may be where a key is expected.
const keyLimit = 4 << 10

func readKey(path string, log *slog.Logger) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o004 != 0 && runtime.GOOS != "windows" {
		log.Warn("every user of this machine can read the key's file", "file", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, keyLimit))
	return string(b), err
}

// askForKey runs a command of the shell, which may talk to the user by stderr and
// his terminal.
func askForKey(ctx context.Context, command string, stderr io.Writer) (string, error) {
	shell := []string{"/bin/sh", "-c", command}
	if runtime.GOOS == "windows" {
		shell = []string{"cmd", "/C", command}
	}
	cmd := exec.CommandContext(ctx, shell[0], shell[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &limited{to: &out, left: keyLimit}, stderr
	err := cmd.Run()
	return out.String(), err
}

// limited takes no more than so many bytes.
type limited struct {
	to   io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, fmt.Errorf("more than %d bytes, which is no key", keyLimit)
	}
	return l.to.Write(p)
}
