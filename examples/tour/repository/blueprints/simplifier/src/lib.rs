//! A smaller tree of the same value.

use tree::Tree;

pub fn simplify(tree: Tree) -> Tree {
    match evaluator::value(&tree) {
        Ok(value) => Tree::Number(value),
        Err(_) => tree,
    }
}

#[test]
fn what_has_no_value_stays() {
    let tree = Tree::operation(Tree::Number(1.0), '/', Tree::Number(0.0));
    assert_eq!(simplify(tree.clone()), tree);
    let tree = Tree::operation(Tree::Number(1.0), '/', Tree::Number(4.0));
    assert_eq!(simplify(tree), Tree::Number(0.25));
}
