//! TOML, by the `toml` crate's spanned document.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::{Entry, Node, Read, Value, duplicate_key, syntax};

pub(super) fn read(text: &str) -> Read {
    let (table, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    let mut read = Read::default();
    let mut is_broken = false;
    let mut last_line = None;
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let line =
            text.as_bytes()[..span.start.min(text.len())].iter().filter(|b| **b == b'\n').count();
        let is_duplicate = error.message() == "duplicate key";
        is_broken |= !is_duplicate;
        // One mistake makes the parser stumble several times over the same line.
        if last_line.replace(line) == Some(line) {
            continue;
        }
        read.problems.push(*if is_duplicate {
            duplicate_key(text.get(span.clone()).unwrap_or_default(), span, None)
        } else {
            let help = help_for(error.message());
            syntax(format!("not valid TOML: {}", error.message()), span, help.map(Into::into))
        });
    }
    if !is_broken {
        read.root = Some(Node::new(table_value(table.into_inner()), 0..text.len()));
    }
    read
}

fn help_for(message: &str) -> Option<&'static str> {
    message.contains("must be quoted").then_some("write text in quotes: \"...\"")
}

fn table_value(table: DeTable<'_>) -> Value {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| {
            let span = value.span();
            Entry::new(key.get_ref().to_string(), key.span(), node(value.into_inner(), span))
        })
        .collect();
    // The map is sorted by key; people read in the order of the text.
    entries.sort_by_key(|entry| entry.key_span.start);
    Value::Map(entries)
}

fn node(value: DeValue<'_>, span: Range<usize>) -> Node {
    let value = match value {
        DeValue::String(text) => Value::Str(text.into_owned()),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Float(f64::INFINITY), Value::Int),
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(elements) => Value::Seq(
            elements
                .into_iter()
                .map(|element| {
                    let span = element.span();
                    node(element.into_inner(), span)
                })
                .collect(),
        ),
        DeValue::Table(table) => table_value(table),
    };
    Node::new(value, span)
}
