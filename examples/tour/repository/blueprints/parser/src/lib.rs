//! From tokens to a tree, by recursive descent.

use error::Error;
use token::Token;
use tree::Tree;

pub fn parse(tokens: &[Token]) -> Result<Tree, Error> {
    let mut rest = tokens;
    let tree = sum(&mut rest)?;
    match rest.first() {
        None => Ok(tree),
        Some(token) => Err(Error::Unexpected(token.to_string())),
    }
}

fn sum(rest: &mut &[Token]) -> Result<Tree, Error> {
    chain(rest, product, &['+', '-'])
}

fn product(rest: &mut &[Token]) -> Result<Tree, Error> {
    chain(rest, atom, &['*', '/'])
}

fn chain(
    rest: &mut &[Token],
    part: fn(&mut &[Token]) -> Result<Tree, Error>,
    signs: &[char],
) -> Result<Tree, Error> {
    let mut tree = part(rest)?;
    while let [Token::Sign(sign), after @ ..] = *rest {
        if !signs.contains(sign) {
            break;
        }
        *rest = after;
        tree = Tree::operation(tree, *sign, part(rest)?);
    }
    Ok(tree)
}

fn atom(rest: &mut &[Token]) -> Result<Tree, Error> {
    let (token, after) = rest.split_first().ok_or(Error::End)?;
    *rest = after;
    match token {
        Token::Number(number) => Ok(Tree::Number(*number)),
        Token::Sign('-') => Ok(Tree::Minus(Box::new(atom(rest)?))),
        Token::Sign('(') => {
            let inner = sum(rest)?;
            match rest.split_first() {
                Some((Token::Sign(')'), after)) => {
                    *rest = after;
                    Ok(inner)
                }
                Some((token, _)) => Err(Error::Unexpected(token.to_string())),
                None => Err(Error::End),
            }
        }
        token => Err(Error::Unexpected(token.to_string())),
    }
}

#[test]
fn products_bind_tighter_than_sums() {
    use Token::{Number, Sign};
    let tree = parse(&[Number(1.0), Sign('+'), Number(2.0), Sign('*'), Number(3.0)]).unwrap();
    let product = Tree::operation(Tree::Number(2.0), '*', Tree::Number(3.0));
    assert_eq!(tree, Tree::operation(Tree::Number(1.0), '+', product));
    assert_eq!(parse(&[Sign('('), Number(1.0)]), Err(Error::End));
}
