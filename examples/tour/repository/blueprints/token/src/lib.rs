//! The words of an expression.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Token {
    Number(f64),
    Sign(char),
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Number(number) => write!(f, "{number}"),
            Token::Sign(sign) => write!(f, "{sign}"),
        }
    }
}

#[test]
fn tokens_are_shown_as_they_are_written() {
    assert_eq!(Token::Number(1.5).to_string(), "1.5");
    assert_eq!(Token::Sign('+').to_string(), "+");
}
