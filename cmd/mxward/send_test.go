package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"mxward/internal/mail"
	"mxward/internal/smtp"
)

// handIn sends one message to an SMTP server, which may still be starting.
func handIn(addr, from, to, subject string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	sender, err := mail.ParseAddress(from)
	if err != nil {
		return err
	}
	recipient, err := mail.ParseAddress(to)
	if err != nil {
		return err
	}
	conn, err := net.Dial("tcp", addr)
	for err != nil && ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
		conn, err = net.Dial("tcp", addr)
	}
	if err != nil {
		return err
	}
	client, err := smtp.Handshake(ctx, conn, smtp.ClientConfig{Hello: "client.example.net"})
	if err != nil {
		return err
	}
	defer client.Close()
	env := mail.Envelope{From: mail.Path{Address: sender}, Recipients: []mail.Recipient{{Address: recipient}}}
	text := fmt.Sprintf("From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\n\r\nHello.\r\n", from, to, subject)
	if o := client.Send(ctx, env, strings.NewReader(text))[0]; o.Status != mail.Delivered {
		return fmt.Errorf("%s at %s: %s", o.Status, o.Stage, o.Reply)
	}
	return nil
}
