"""The least that a Flask application can be: what its web stack costs, and nothing else."""

from flask import Flask, Response, jsonify

app = Flask(__name__)


@app.get("/")
def nothing() -> Response:
    """An answer without a question."""
    return jsonify({"feed": []})
