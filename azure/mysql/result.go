package mysql

import (
	"encoding/binary"
	"math"
	"strconv"
	"time"
)

// resultWriter sends a result to the client, in the text protocol or, for
// prepared statements, in the binary one.
type resultWriter struct {
	p       *packetConn
	binary  bool
	status  func() Status
	limits  Limits
	columns []Column
	started bool
	rows    int
	bytes   int
	buf     []byte
}

// Columns sends the header of a result.
func (w *resultWriter) Columns(columns []Column) error {
	w.started, w.columns = true, columns
	if err := w.p.write(appendLenenc(nil, uint64(len(columns)))); err != nil {
		return err
	}
	for _, c := range columns {
		if err := w.p.write(columnPacket(c)); err != nil {
			return err
		}
	}
	return w.p.write(eofPacket(w.status()))
}

// Row sends one row, or ends the result with an error where it is larger than
// one may be.
func (w *resultWriter) Row(row []Value) error {
	if w.binary {
		w.buf = w.appendBinary(w.buf[:0], row)
	} else {
		w.buf = appendText(w.buf[:0], row)
	}
	w.rows++
	w.bytes += len(w.buf)
	if w.rows > w.limits.ResultRows || w.bytes > w.limits.ResultBytes {
		return errorf(1104, "42000", "The result is over %d rows or %d bytes; select less at a time (WHERE, LIMIT)", w.limits.ResultRows, w.limits.ResultBytes)
	}
	return w.p.write(w.buf)
}

// columnPacket is Protocol::ColumnDefinition41.
func columnPacket(c Column) []byte {
	b := appendLenencString(nil, "def")
	for _, s := range [...]string{c.Database, c.Table, c.OrgTable, c.Name, c.OrgName} {
		b = appendLenencString(b, s)
	}
	charset, length, flags, decimals := uint16(collation), uint32(math.MaxUint32), uint16(0), byte(0)
	switch c.Type {
	case TypeLongLong:
		charset, length, flags = binaryCharset, 20, 0x0080
	case TypeDouble:
		charset, length, flags, decimals = binaryCharset, 22, 0x0080, 31
	case TypeDate:
		charset, length, flags = binaryCharset, 10, 0x0080
	case TypeDateTime:
		charset, length, flags, decimals = binaryCharset, 26, 0x0080, 6
	case TypeBlob:
		charset, flags = binaryCharset, 0x0010|0x0080
	}
	b = append(b, 0x0c)
	b = binary.LittleEndian.AppendUint16(b, charset)
	b = binary.LittleEndian.AppendUint32(b, length)
	b = append(b, byte(c.Type))
	b = binary.LittleEndian.AppendUint16(b, flags)
	return append(b, decimals, 0, 0)
}

// binaryCharset is the character set of what is not text.
const binaryCharset = 63

func eofPacket(status Status) []byte {
	return []byte{0xfe, 0, 0, byte(status), byte(status >> 8)}
}

func okPacket(r Result, status Status) []byte {
	b := appendLenenc([]byte{0}, r.Affected)
	b = appendLenenc(b, r.LastInsertID)
	b = binary.LittleEndian.AppendUint16(b, uint16(status))
	return append(b, 0, 0)
}

func appendText(b []byte, row []Value) []byte {
	for _, v := range row {
		switch x := v.(type) {
		case nil:
			b = append(b, 0xfb)
		case int64:
			var digits [20]byte
			b = appendLenencString(b, strconv.AppendInt(digits[:0], x, 10))
		case float64:
			var digits [32]byte
			b = appendLenencString(b, strconv.AppendFloat(digits[:0], x, 'g', -1, 64))
		case []byte:
			b = appendLenencString(b, x)
		}
	}
	return b
}

// appendBinary is a ProtocolBinary::ResultsetRow.
func (w *resultWriter) appendBinary(b []byte, row []Value) []byte {
	b = append(b, 0)
	nulls := len(b)
	b = append(b, make([]byte, (len(row)+9)/8)...)
	for i, v := range row {
		switch x := v.(type) {
		case nil:
			b[nulls+(i+2)/8] |= 1 << ((i + 2) % 8)
		case int64:
			b = binary.LittleEndian.AppendUint64(b, uint64(x))
		case float64:
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
		case []byte:
			if t := w.columns[i].Type; t == TypeDate || t == TypeDateTime {
				b = appendTime(b, string(x))
			} else {
				b = appendLenencString(b, x)
			}
		}
	}
	return b
}

// appendTime is ProtocolBinary's DATE and DATETIME. A text that is no time
// (older than the column's constraint) goes as the zero date.
func appendTime(b []byte, text string) []byte {
	var t time.Time
	var err error
	for _, layout := range [...]string{"2006-01-02 15:04:05", "2006-01-02", "2006-01-02T15:04:05Z07:00"} {
		if t, err = time.Parse(layout, text); err == nil {
			break
		}
	}
	if err != nil {
		return append(b, 0)
	}
	t = t.UTC()
	b = append(b, 11)
	b = binary.LittleEndian.AppendUint16(b, uint16(t.Year()))
	b = append(b, byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()))
	return binary.LittleEndian.AppendUint32(b, uint32(t.Nanosecond()/1000))
}

// A parameterReader decodes the arguments of COM_STMT_EXECUTE.
type parameterType struct {
	code     byte
	unsigned bool
}

// readParameters decodes ProtocolBinary's arguments. known holds the types of
// the last execution and is replaced where the packet brings new ones; long
// holds what COM_STMT_SEND_LONG_DATA sent before.
func readParameters(r *reader, n int, known *[]parameterType, long map[int][]byte) ([]Value, error) {
	if n == 0 {
		return nil, nil
	}
	malformed := errorf(1210, "HY000", "Incorrect arguments to mysqld_stmt_execute")
	nulls := r.take((n + 7) / 8)
	if r.uint(1) == 1 {
		types := make([]parameterType, n)
		for i := range types {
			types[i] = parameterType{code: byte(r.uint(1)), unsigned: r.uint(1)&0x80 != 0}
		}
		*known = types
	}
	if r.bad || len(*known) != n {
		return nil, malformed
	}
	args := make([]Value, n)
	for i := range args {
		if data, ok := long[i]; ok {
			args[i] = data
			continue
		}
		if nulls[i/8]&(1<<(i%8)) != 0 {
			continue
		}
		v, ok := readParameter(r, (*known)[i])
		if !ok || r.bad {
			return nil, malformed
		}
		args[i] = v
	}
	if len(r.b) != 0 {
		return nil, malformed
	}
	return args, nil
}

func readParameter(r *reader, t parameterType) (Value, bool) {
	integer := func(size int) (Value, bool) {
		v := r.uint(size)
		if t.unsigned {
			return v, true
		}
		shift := 64 - 8*size
		return int64(v<<shift) >> shift, true
	}
	switch t.code {
	case 0x01:
		return integer(1)
	case 0x02, 0x0d:
		return integer(2)
	case 0x03, 0x09:
		return integer(4)
	case 0x08:
		return integer(8)
	case 0x04:
		return float64(math.Float32frombits(uint32(r.uint(4)))), true
	case 0x05:
		return math.Float64frombits(r.uint(8)), true
	case 0x06:
		return nil, true
	case 0x07, 0x0a, 0x0c:
		return readDateTime(r)
	case 0x0b:
		return readDuration(r)
	case 0x00, 0x0f, 0x10, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe:
		return r.lenencBytes(), true
	}
	return nil, false
}

func two(n uint64) string { return strconv.FormatUint(100+n, 10)[1:] }

func readDateTime(r *reader) (Value, bool) {
	n := r.uint(1)
	year, month, day := uint64(0), uint64(0), uint64(0)
	text := ""
	if n >= 4 {
		year, month, day = r.uint(2), r.uint(1), r.uint(1)
	}
	if year > 9999 || month > 12 || day > 31 {
		return nil, false
	}
	text = strconv.FormatUint(10000+year, 10)[1:] + "-" + two(month) + "-" + two(day)
	if n == 0 || n == 4 {
		if n == 4 {
			return text, true
		}
		return text + " 00:00:00", true
	}
	if n != 7 && n != 11 {
		return nil, false
	}
	hour, minute, second := r.uint(1), r.uint(1), r.uint(1)
	if hour > 23 || minute > 59 || second > 59 {
		return nil, false
	}
	text += " " + two(hour) + ":" + two(minute) + ":" + two(second)
	if n == 11 {
		micro := r.uint(4)
		if micro > 999999 {
			return nil, false
		}
		text += "." + strconv.FormatUint(1000000+micro, 10)[1:]
	}
	return text, true
}

func readDuration(r *reader) (Value, bool) {
	n := r.uint(1)
	if n == 0 {
		return "00:00:00", true
	}
	if n != 8 && n != 12 {
		return nil, false
	}
	sign := ""
	if r.uint(1) == 1 {
		sign = "-"
	}
	days, hour, minute, second := r.uint(4), r.uint(1), r.uint(1), r.uint(1)
	if days > 34 || hour > 23 || minute > 59 || second > 59 {
		return nil, false
	}
	hours := strconv.FormatUint(days*24+hour, 10)
	if len(hours) < 2 {
		hours = "0" + hours
	}
	text := sign + hours + ":" + two(minute) + ":" + two(second)
	if n == 12 {
		micro := r.uint(4)
		if micro > 999999 {
			return nil, false
		}
		text += "." + strconv.FormatUint(1000000+micro, 10)[1:]
	}
	return text, true
}
