//! YAML into a located tree.
//!
//! The grammar is saphyr-parser's, taken as events, so that nothing is resolved or expanded: no
//! alias can grow a document, and a scalar keeps the text that was written. The stack is a vector:
//! depth costs memory, never the thread's stack.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::{At, Content, DEPTH_MAX, DocumentError, Entry, Node};

pub(super) fn read(text: &str) -> Result<Node, DocumentError> {
    let mut tree = Tree::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| syntax(&error))?;
        tree.take(event, line(span))?;
    }
    // A file of nothing but comments is an empty map.
    let says_something = |node: &Node| !matches!(node.content, Content::Null);
    let nothing = || Node::new(At::Line(1), Content::Map(Vec::new()));
    Ok(tree.root.filter(says_something).unwrap_or_else(nothing))
}

fn line(span: Span) -> u32 {
    u32::try_from(span.start.line()).unwrap_or(u32::MAX).max(1)
}

fn syntax(error: &ScanError) -> DocumentError {
    DocumentError::Syntax {
        line: u32::try_from(error.marker().line())
            .unwrap_or(u32::MAX)
            .max(1),
        what: format!("not YAML: {}", error.info()),
    }
}

#[derive(Default)]
struct Tree {
    root: Option<Node>,
    open: Vec<Open>,
}

/// A list or map whose end has not come yet.
struct Open {
    line: u32,
    content: OpenContent,
}

enum OpenContent {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        key: Option<(Box<str>, u32)>,
    },
}

impl Tree {
    fn take(&mut self, event: Event<'_>, line: u32) -> Result<(), DocumentError> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(DocumentError::SecondDocument { line })
            }
            Event::DocumentStart(_) => Ok(()),
            Event::Alias(_) => Err(DocumentError::Alias { line }),
            Event::Scalar(text, style, anchor, tag) => {
                refuse_properties(anchor, tag.is_some(), line)?;
                self.scalar(&text, style, line)
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_properties(anchor, tag.is_some(), line)?;
                self.open(OpenContent::List(Vec::new()), line)
            }
            Event::MappingStart(anchor, tag) => {
                refuse_properties(anchor, tag.is_some(), line)?;
                let (entries, key) = (Vec::new(), None);
                self.open(OpenContent::Map { entries, key }, line)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn open(&mut self, content: OpenContent, line: u32) -> Result<(), DocumentError> {
        if self.open.len() == DEPTH_MAX {
            return Err(DocumentError::TooDeep { line });
        }
        if self.awaits_key() {
            return Err(DocumentError::Key { line });
        }
        self.open.push(Open { line, content });
        Ok(())
    }

    fn close(&mut self) -> Result<(), DocumentError> {
        let Some(Open { line, content }) = self.open.pop() else {
            return Ok(());
        };
        let content = match content {
            OpenContent::List(items) => Content::List(items),
            OpenContent::Map { entries, .. } => Content::Map(entries),
        };
        self.add(Node::new(At::Line(line), content))
    }

    fn awaits_key(&self) -> bool {
        let top = self.open.last().map(|open| &open.content);
        matches!(top, Some(OpenContent::Map { key: None, .. }))
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, line: u32) -> Result<(), DocumentError> {
        if let Some(OpenContent::Map {
            key: key @ None, ..
        }) = self.open.last_mut().map(|open| &mut open.content)
        {
            *key = Some((text.into(), line));
            return Ok(());
        }
        let content = match style {
            ScalarStyle::Plain => plain(text),
            ScalarStyle::SingleQuoted
            | ScalarStyle::DoubleQuoted
            | ScalarStyle::Literal
            | ScalarStyle::Folded => Content::Text(text.into()),
        };
        self.add(Node::new(At::Line(line), content))
    }

    fn add(&mut self, node: Node) -> Result<(), DocumentError> {
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(OpenContent::List(items)) => items.push(node),
            Some(OpenContent::Map { entries, key }) => match key.take() {
                Some((key, line)) => entries.push(Entry {
                    key,
                    at: At::Line(line),
                    value: node,
                }),
                None => {
                    let At::Line(line) = node.at else {
                        return Ok(());
                    };
                    return Err(DocumentError::Key { line });
                }
            },
        }
        Ok(())
    }
}

fn refuse_properties(anchor: usize, tagged: bool, line: u32) -> Result<(), DocumentError> {
    // Anchors are numbered from 1.
    match (anchor, tagged) {
        (0, false) => Ok(()),
        (0, true) => Err(DocumentError::Tag { line }),
        (_, _) => Err(DocumentError::Alias { line }),
    }
}

/// Null and truth values as the core schema has them (YAML 1.2.2 section 10.3.2). Numbers keep
/// their text: each key reads its own.
fn plain(text: &str) -> Content {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Content::Null,
        "true" | "True" | "TRUE" => Content::Bool(true),
        "false" | "False" | "FALSE" => Content::Bool(false),
        text => Content::Plain(text.into()),
    }
}
