//! From characters to tokens.

use error::Error;
use token::Token;

pub fn tokens(text: &str) -> Result<Vec<Token>, Error> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&c) = chars.peek() {
        if c.is_ascii_digit() || c == '.' {
            let mut number = String::new();
            while let Some(&c) = chars.peek().filter(|c| c.is_ascii_digit() || **c == '.') {
                number.push(c);
                chars.next();
            }
            tokens.push(Token::Number(number.parse().map_err(|_| Error::Unexpected(number))?));
            continue;
        }
        chars.next();
        match c {
            '+' | '-' | '*' | '/' | '(' | ')' => tokens.push(Token::Sign(c)),
            c if c.is_whitespace() => {}
            c => return Err(Error::Character(c)),
        }
    }
    Ok(tokens)
}

#[test]
fn text_is_split() {
    let expected = [Token::Number(12.5), Token::Sign('*'), Token::Sign('('), Token::Number(3.0)];
    assert_eq!(tokens("12.5*( 3").unwrap(), expected);
    assert_eq!(tokens("1 & 2"), Err(Error::Character('&')));
}
