package render

import (
	"fmt"
	"regexp"
	"strings"
)

// This is the part of the DOT language (graphviz.org/doc/info/lang.html) that a
// directed graph without subgraphs needs:
//
//	graph     : 'digraph' [ ID ] '{' stmt_list '}'
//	stmt_list : [ stmt [ ';' ] stmt_list ]
//	stmt      : ID '=' ID | 'node' attr_list | ID [ attr_list ] | ID '->' ID [ '->' ID ... ] [ attr_list ]
//	attr_list : '[' [ ID '=' ID [ ',' | ';' ] ... ] ']' [ attr_list ]
//
// It is written from the language's description, not from what writes it.

type dotGraph struct {
	nodes map[string]map[string]string // attributes
	edges [][2]string
}

// leads reports whether there is a way along the edges.
func (g dotGraph) leads(from, to string) bool {
	if from == to {
		return true
	}
	for _, e := range g.edges {
		if e[0] == from && g.leads(e[1], to) {
			return true
		}
	}
	return false
}

// dotToken is an ID, with the quotes taken off, or a word of the language.
type dotToken struct {
	text string
	isID bool
}

var dotLexeme = regexp.MustCompile(`^(?:"(?:[^"\\]|\\[\s\S])*"|[A-Za-z_\x80-\xff][A-Za-z_0-9\x80-\xff]*` +
	`|-?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)|->|[{}\[\]=;,])`)

func dotTokens(text string) ([]dotToken, error) {
	var tokens []dotToken
	for {
		if text = strings.TrimLeft(text, " \t\r\n"); text == "" {
			return tokens, nil
		}
		lexeme := dotLexeme.FindString(text)
		if lexeme == "" {
			return nil, fmt.Errorf("cannot read %.20q", text)
		}
		text = text[len(lexeme):]
		switch first := lexeme[0]; {
		case first == '"':
			// "In quoted strings in DOT, the only escaped character is double-quote": all else
			// is left to whoever reads the attribute.
			tokens = append(tokens, dotToken{unquoteDot(lexeme[1 : len(lexeme)-1]), true})
		case strings.ContainsRune("{}[]=;,", rune(first)) || lexeme == "->":
			tokens = append(tokens, dotToken{lexeme, false})
		default:
			keyword := strings.Contains(" digraph graph node edge subgraph strict ", " "+strings.ToLower(lexeme)+" ")
			tokens = append(tokens, dotToken{lexeme, !keyword})
		}
	}
}

func unquoteDot(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			if s[i+1] != '"' {
				b.WriteByte(s[i])
			}
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// escString reads what a label makes of its text (graphviz.org/docs/attr-types/escString);
// an escape that stands for something of the graph is told as such.
func escString(s string) string {
	return regexp.MustCompile(`\\[\s\S]`).ReplaceAllStringFunc(s, func(escape string) string {
		switch escape[1] {
		case 'n':
			return "\n"
		case '\\':
			return `\`
		case 'l', 'r', 'N', 'G', 'E', 'T', 'H', 'L':
			return "<" + escape[1:] + ">"
		}
		return escape[1:]
	})
}

type dotParser struct{ rest []dotToken }

// take takes the next token when it is this word.
func (p *dotParser) take(word string) bool {
	if len(p.rest) > 0 && !p.rest[0].isID && strings.EqualFold(p.rest[0].text, word) {
		p.rest = p.rest[1:]
		return true
	}
	return false
}

func (p *dotParser) id() (string, bool) {
	if len(p.rest) == 0 || !p.rest[0].isID {
		return "", false
	}
	id := p.rest[0].text
	p.rest = p.rest[1:]
	return id, true
}

func parseDot(text string) (dotGraph, error) {
	g := dotGraph{nodes: map[string]map[string]string{}}
	tokens, err := dotTokens(text)
	if err != nil {
		return g, err
	}
	p := &dotParser{tokens}
	if !p.take("digraph") {
		return g, fmt.Errorf("it is no digraph")
	}
	p.id()
	if !p.take("{") {
		return g, fmt.Errorf("it has no body")
	}
	for !p.take("}") {
		if err := p.statement(&g); err != nil {
			return g, err
		}
		p.take(";")
	}
	if len(p.rest) > 0 {
		return g, fmt.Errorf("there is %q behind it", p.rest[0].text)
	}
	return g, nil
}

func (p *dotParser) statement(g *dotGraph) error {
	if p.take("node") {
		_, err := p.attributes()
		return err
	}
	id, ok := p.id()
	if !ok {
		return fmt.Errorf("a statement begins with no ID: %v", p.rest)
	}
	if p.take("=") {
		if _, ok := p.id(); !ok {
			return fmt.Errorf("%s has no value", id)
		}
		return nil
	}
	ends := []string{id}
	for p.take("->") {
		other, ok := p.id()
		if !ok {
			return fmt.Errorf("an edge from %s leads nowhere", id)
		}
		g.edges = append(g.edges, [2]string{ends[len(ends)-1], other})
		ends = append(ends, other)
	}
	attributes, err := p.attributes()
	if len(ends) == 1 && err == nil {
		if _, twice := g.nodes[id]; twice {
			return fmt.Errorf("the node %s is there twice", id)
		}
		g.nodes[id] = attributes
	}
	return err
}

func (p *dotParser) attributes() (map[string]string, error) {
	all := map[string]string{}
	for p.take("[") {
		for !p.take("]") {
			name, named := p.id()
			equals := p.take("=")
			value, valued := p.id()
			if !named || !equals || !valued {
				return nil, fmt.Errorf("an attribute is not NAME=VALUE: %v", p.rest)
			}
			all[name] = value
			if !p.take(",") {
				p.take(";")
			}
		}
	}
	return all, nil
}
