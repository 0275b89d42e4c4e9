package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"verdant/estate"
)

// restFlags are the settings of a request.
type restFlags struct {
	session              sessionFlags
	body, resource, from string
	headers              []string
}

func newRestCommand() *cobra.Command {
	var flags restFlags
	cmd := &cobra.Command{
		Use:   "rest METHOD URL",
		Short: "Make a signed-in request to any platform API, from the jump-box's network",
		Example: `  verdant rest GET 'https://eudcc-ie-kv-g1.vault.azure.net/keys?api-version=7.4'
  verdant rest DELETE 'https://management.verdant.localhost/<assignment id>?api-version=2022-04-01'`,
		Args: exactly(2, "a method and a URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return rest(cmd.Context(), flags, strings.ToUpper(args[0]), args[1])
		},
	}
	flags.session.register(cmd)
	flags.session.registerAs(cmd, estate.AdminUser)
	cmd.Flags().StringVar(&flags.body, "body", "", "file with the request body, - for standard input")
	cmd.Flags().StringVar(&flags.resource, "resource", "", "audience of the access token, if the host does not tell")
	cmd.Flags().StringVar(&flags.from, "from", "", "region whose jump-box the request leaves from")
	cmd.Flags().StringArrayVar(&flags.headers, "header", nil, "a request header, 'Name: value'; may be repeated")
	return cmd
}

func rest(ctx context.Context, flags restFlags, method, target string) error {
	s, err := flags.session.open()
	if err != nil {
		return err
	}
	req, err := s.restRequest(ctx, flags, method, target)
	if err != nil {
		return err
	}
	client, err := s.client(ctx, flags.from)
	if err != nil {
		return err
	}
	resource := flags.resource
	if resource == "" {
		if resource, err = s.resourceOf(req.URL); err != nil {
			return err
		}
	}
	token, err := s.token(ctx, resource)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return err
	}
	if _, err := os.Stdout.Write(answer); err != nil {
		return err
	}
	if len(answer) > 0 && !bytes.HasSuffix(answer, []byte("\n")) {
		fmt.Println()
	}
	if resp.StatusCode >= 400 {
		return fmt.Errorf("%s %s: %s", method, req.URL.Redacted(), resp.Status)
	}
	return nil
}

// restRequest checks the arguments and makes the request of them.
func (s *session) restRequest(ctx context.Context, flags restFlags, method, target string) (*http.Request, error) {
	if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}, method) {
		return nil, usagef("%q is not an HTTP method", method)
	}
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, usagef("%q is not an https URL", target)
	}
	var content []byte
	if flags.body != "" {
		if content, err = readInput(flags.body, 16<<20); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	if len(content) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range flags.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return nil, usagef("--header %q: write it as 'Name: value'", h)
		}
		req.Header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return req, nil
}
