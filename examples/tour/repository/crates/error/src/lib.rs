//! What can be wrong with an expression.

use std::fmt;

#[derive(Debug, Clone, PartialEq)]
pub enum Error {
    Character(char),
    Unexpected(String),
    End,
    DivisionByZero,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Character(c) => write!(f, "{c:?} is not part of an expression"),
            Error::Unexpected(token) => write!(f, "{token} is unexpected"),
            Error::End => write!(f, "the expression ends too early"),
            Error::DivisionByZero => write!(f, "division by zero"),
        }
    }
}
