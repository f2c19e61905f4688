// Package conf is the configuration language of sasyncd.conf and carpd.conf.
//
// The language is OpenBSD's: words separated by white space, comments from #
// to the end of the line, no order between statements. A file written for
// OpenBSD's sasyncd is accepted and means the same, with the exceptions that
// sasyncd.conf(5) names. carpd.conf adds braces, and semicolons between the
// statements inside them.
//
// ParseSasyncd and ParseCarpd are pure: bytes in, a plain struct or all errors
// out, each with file, line and column. LoadSasyncd and LoadCarpd read files
// and refuse those that somebody else could change or, where they hold a key,
// read. Print writes a configuration in normal form, keys as their length.
//
// keywords.go holds the table of every keyword. One that this version parses
// but that would have no effect is marked there and refused with a message
// that says so, so that nobody relies on what does not exist.
package conf
