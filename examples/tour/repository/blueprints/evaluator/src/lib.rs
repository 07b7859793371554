//! The value of a tree.

use error::Error;
use tree::Tree;

pub fn value(tree: &Tree) -> Result<f64, Error> {
    Ok(match tree {
        Tree::Number(number) => *number,
        Tree::Minus(inner) => -value(inner)?,
        Tree::Operation(left, sign, right) => {
            let (left, right) = (value(left)?, value(right)?);
            match sign {
                '+' => left + right,
                '-' => left - right,
                '*' => left * right,
                '/' if right == 0.0 => return Err(Error::DivisionByZero),
                '/' => left / right,
                sign => return Err(Error::Unexpected(sign.to_string())),
            }
        }
    })
}

#[test]
fn operations_are_carried_out() {
    let tree = Tree::operation(Tree::Number(7.0), '/', Tree::Number(2.0));
    assert_eq!(value(&tree), Ok(3.5));
    let tree = Tree::operation(Tree::Number(7.0), '/', Tree::Number(0.0));
    assert_eq!(value(&tree), Err(Error::DivisionByZero));
}
