package busconn

import "context"

// AwaitGone returns when the connection with the unique name has left the bus, at once if
// it has already. Errors: ctx or this connection has ended.
func (b *Bus) AwaitGone(ctx context.Context, name string) error {
	l, err := b.Listen(ctx, name, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	for {
		if present, _ := l.Owner(); !present {
			return nil // a unique name is not reused
		}
		select {
		case <-l.C():
		case <-ctx.Done():
			return ctx.Err()
		case <-b.Done():
			return ErrDisconnected
		}
	}
}
