package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"verdant/estate"
	"verdant/hcert"
	"verdant/hcert/barcode"
	"verdant/hcert/conformance"
)

// maxCertificateFile bounds what the cert commands read: a photograph of a QR
// code is the largest.
const maxCertificateFile = 16 << 20

func newCertCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "Issue, verify and take apart health certificates",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command \"cert %s\"", args[0])
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	cmd.AddCommand(newCertIssueCommand(), newCertVerifyCommand(), newCertDecodeCommand(), newCertConformanceCommand())
	return cmd
}

// issued is the portal's answer.
type issued struct {
	UVCI    string    `json:"uvci"`
	HC1     string    `json:"hc1"`
	TAN     string    `json:"tan"`
	Expires time.Time `json:"expires"`
}

func newCertIssueCommand() *cobra.Command {
	var flags sessionFlags
	var file, out string
	cmd := &cobra.Command{
		Use:   "issue --file DCC.json",
		Short: "Issue a certificate through the portal, as the signed-in health professional",
		Long: `Issue a certificate through the portal's API. The file is the DCC payload as JSON; its
certificate identifier (ci) is replaced by a new one. The HC1 text is printed alone on a line.`,
		Args: exactly(0, "no arguments besides --file"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("name the DCC payload with --file")
			}
			if err := checkOut(out); err != nil {
				return err
			}
			payload, err := readInput(file, 1<<20)
			if err != nil {
				return err
			}
			s, err := flags.open()
			if err != nil {
				return err
			}
			cert, err := s.issue(cmd.Context(), payload)
			if err != nil {
				return err
			}
			if out != "" {
				if err := writeCertificate(out, cert.HC1); err != nil {
					return err
				}
			}
			if s.json {
				return printJSON(os.Stdout, cert)
			}
			fmt.Println(cert.HC1)
			fmt.Fprintf(os.Stderr, "Issued %s; transfer code for the wallet (TAN): %s\n", cert.UVCI, cert.TAN)
			return nil
		},
	}
	flags.register(cmd)
	flags.registerAs(cmd, estate.ProfessionalUser)
	cmd.Flags().StringVar(&file, "file", "", "DCC payload as JSON, - for standard input")
	cmd.Flags().StringVar(&out, "out", "", "also write the certificate to FILE.png, FILE.pdf or FILE.txt")
	return cmd
}

func (s *session) portalURL(path string) string {
	return "https://" + s.names().ServiceHost("dgca-issuance-web", estate.IE) + path
}

// issue asks the portal for a certificate. An error names the layer that
// refused, with its code.
func (s *session) issue(ctx context.Context, payload []byte) (issued, error) {
	var cert issued
	client, err := s.client(ctx, "")
	if err != nil {
		return cert, err
	}
	token, err := s.token(ctx, estate.PortalAudience)
	if err != nil {
		return cert, err
	}
	return cert, postJSON(ctx, client, s.portalURL("/api/certificates"), token, payload, &cert)
}

// postJSON posts body and decodes the answer, or makes an error of it.
func postJSON(ctx context.Context, client *http.Client, url, token string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return refusal(resp, raw)
	}
	return json.Unmarshal(raw, into)
}

// refusal reads the two error shapes of the workload: Azure's, and the DCC
// services' problem report.
func refusal(resp *http.Response, body []byte) error {
	host := strings.SplitN(resp.Request.URL.Host, ".", 2)[0]
	var report struct {
		Code, Problem, Details string
		Fields                 []struct{ Field, Why string }
	}
	if json.Unmarshal(body, &report) == nil && report.Problem != "" {
		text := report.Problem
		if report.Details != "" {
			text += ": " + report.Details
		}
		if report.Code != "" {
			text += " (" + report.Code + ")"
		}
		for _, f := range report.Fields {
			text += fmt.Sprintf("\n  %s %s", f.Field, f.Why)
		}
		return fmt.Errorf("%s refused: %s", host, text)
	}
	return fmt.Errorf("%s refused: %w", host, wireError(resp.Status, body))
}

func checkOut(out string) error {
	switch strings.ToLower(filepath.Ext(out)) {
	case ".png", ".pdf", ".txt":
		return nil
	}
	if out == "" {
		return nil
	}
	return usagef("--out %s: the name must end in .png, .pdf or .txt", out)
}

func writeCertificate(out, text string) error {
	var content bytes.Buffer
	var err error
	switch strings.ToLower(filepath.Ext(out)) {
	case ".png":
		err = barcode.WriteQR(&content, text, 512)
	case ".pdf":
		err = writePDF(&content, text)
	default:
		content.WriteString(text + "\n")
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", out, err)
	}
	return os.WriteFile(out, content.Bytes(), 0o600)
}

// readCertificate finds the HC1 text in an argument: the text itself, a file
// with the text, a picture of its code, or standard input.
func readCertificate(arg string) (string, error) {
	if strings.HasPrefix(arg, hcert.Prefix) {
		return arg, nil
	}
	raw, err := readInput(arg, maxCertificateFile)
	if err != nil {
		if arg != "-" && errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("%q is neither an %s text nor a file", clip(arg), hcert.Prefix)
		}
		return "", err
	}
	if bytes.HasPrefix(raw, []byte("%PDF")) {
		return "", fmt.Errorf("%s is a PDF: give the text of its code, or a picture of it", arg)
	}
	for _, magic := range []string{"\x89PNG", "\xff\xd8\xff", "GIF8"} {
		if bytes.HasPrefix(raw, []byte(magic)) {
			return barcode.Photo().Read(bytes.NewReader(raw))
		}
	}
	return strings.TrimRight(string(raw), "\r\n"), nil
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

func newCertVerifyCommand() *cobra.Command {
	var flags sessionFlags
	var rules ruleFlags
	var at string
	var strict bool
	cmd := &cobra.Command{
		Use:   "verify HC1|FILE|-",
		Short: "Verify a certificate against the member state's trust list",
		Long: `Verify a certificate against the member state's trust list: signature, validity, key usage and
schema. With --rules also the business rules of a country, which the member state's business rule
service has from the gateway; what does not pass every rule that applies is refused. If no rules of the
country are known, or none applies, the answer is NOT CHECKED and the exit code 3.`,
		Args: exactly(1, "one HC1 text, file or -"),
		RunE: func(cmd *cobra.Command, args []string) error {
			when := time.Now()
			if at != "" {
				var err error
				if when, err = parseTime(at); err != nil {
					return err
				}
			}
			if err := rules.check(); err != nil {
				return err
			}
			text, err := readCertificate(args[0])
			if err != nil {
				return err
			}
			s, err := flags.open()
			if err != nil {
				return err
			}
			keys, err := s.trustList(cmd.Context())
			if err != nil {
				return err
			}
			v, verified := verifyText(text, keys, when)
			if strict {
				v.strictly()
			}
			if rules.country != "" && verified != nil {
				if err := s.applyRules(cmd.Context(), &v, verified, rules); err != nil {
					return err
				}
			}
			if err := s.printVerdict(v, rules.explain); err != nil {
				return err
			}
			return v.exit()
		},
	}
	flags.register(cmd)
	rules.register(cmd)
	cmd.Flags().BoolVar(&strict, "strict", false, "also refuse what the schema does not see but is wrong or doubtful, such as unknown codes")
	cmd.Flags().StringVar(&at, "at", "", "verify as of this time (RFC 3339 or YYYY-MM-DD)")
	return cmd
}

func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usagef("--at %q: write it as 2026-01-31 or 2026-01-31T12:00:00Z", s)
}

// trustList fetches the document signers that the member state's verifier
// service trusts. It checked each of them up to the trust anchor.
func (s *session) trustList(ctx context.Context) (hcert.KeySet, error) {
	client, err := s.client(ctx, "")
	if err != nil {
		return nil, err
	}
	url := "https://" + s.names().ServiceHost("dgca-verifier-service", estate.IE) + "/trustlist"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp, raw)
	}
	var items []struct {
		RawData string `json:"rawData"`
	}
	if err := json.Unmarshal(raw, &items); err != nil {
		return nil, fmt.Errorf("trust list: %w", err)
	}
	keys := make([]*hcert.Key, 0, len(items))
	for _, item := range items {
		der, err := base64.StdEncoding.DecodeString(item.RawData)
		if err != nil {
			continue
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			continue
		}
		if key, err := hcert.NewKey(cert); err == nil {
			keys = append(keys, key)
		}
	}
	return hcert.NewKeySet(keys...), nil
}

func newCertDecodeCommand() *cobra.Command {
	var output, language string
	cmd := &cobra.Command{
		Use:   "decode HC1|FILE|-",
		Short: "Take a certificate apart without trusting it",
		Long: `Take a certificate apart without trusting it: content, what its codes mean, and what is odd about
it. Of one that cannot be taken apart it shows how far that went.`,
		Args: exactly(1, "one HC1 text, file or -"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			text, err := readCertificate(args[0])
			if err != nil {
				return err
			}
			var decoder hcert.Decoder
			u, err := decoder.Decode(text)
			d := describe(u, language)
			if err != nil {
				_, d.Stages = decoder.Diagnose(text, nil, time.Now())
				return errors.Join(printJSON(os.Stdout, d), err)
			}
			fmt.Fprintln(os.Stderr, "The signature has not been checked; anybody can write such a certificate.")
			writeFindings(os.Stderr, d.Findings)
			return printJSON(os.Stdout, d)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "json", "how to print: a certificate's content is always JSON")
	cmd.Flags().StringVar(&language, "lang", "en", "the language of the codes' texts, where they have it")
	return cmd
}

func newCertConformanceCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "conformance DIR",
		Short: "Run the EU's test data below a directory and count what agrees",
		Args:  exactly(1, "one directory"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			results, err := conformance.Run(args[0])
			if err != nil {
				return err
			}
			passed, failed := 0, 0
			enc := json.NewEncoder(os.Stdout)
			for _, r := range results {
				if r.Passed() {
					passed++
				} else {
					failed++
				}
				switch {
				case output == "json":
					if err := enc.Encode(r); err != nil {
						return err
					}
				case !r.Passed():
					fmt.Printf("%s: %s\n", r.File, r.Error)
				}
			}
			summary := fmt.Sprintf("%d passed, %d failed", passed, failed)
			if output == "json" {
				fmt.Fprintln(os.Stderr, summary)
			} else {
				fmt.Println(summary)
			}
			switch {
			case len(results) == 0:
				return fmt.Errorf("%s holds no test data", args[0])
			case failed > 0:
				return exitError(1)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "how to print: text or json (one line a file)")
	return cmd
}
