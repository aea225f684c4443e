"""What a Flask developer would write for a route with `protocol: message`.

Run as: flask_app.py PORT
"""
import sys
import time

from flask import Flask, Response, jsonify, request

app = Flask(__name__)
rooms = {}  # what each connection has said


@app.post("/ws")
def socket():
    event = request.headers["Sluice-Event"]
    connection = request.headers["Connection-Id"]
    if event == "open":
        if request.args.get("token") == "wrong":
            return "who are you?", 403
        rooms[connection] = []
        response = Response("welcome", content_type="text/plain; charset=utf-8")
        if "chat" in request.headers.get("Sec-WebSocket-Protocol", ""):
            response.headers["Sec-WebSocket-Protocol"] = "chat"
        response.set_cookie("session", "1")
        return response
    if event == "close":
        rooms[connection].append(
            "close {} {}".format(
                request.headers["Sluice-Close-Code"],
                request.headers.get("Sluice-Close-Reason", "-"),
            )
        )
        return "", 204
    return message(connection)


def message(connection):
    body = request.get_data()
    if request.content_type == "application/octet-stream":
        rooms[connection].append(len(body))
        return Response(body[::-1], content_type="application/octet-stream")
    text = body.decode()
    rooms[connection].append(text)
    if text == "silence":
        return "", 204
    if text == "json":
        return jsonify(count=len(rooms[connection]))
    if text == "fail":
        raise ValueError("as asked")
    if text == "slow":
        time.sleep(0.2)
    if text == "invalid":
        return Response(b"\xff", content_type="text/plain")
    return text.upper()


@app.get("/log")
def log():
    return jsonify(list(rooms.values()))


if __name__ == "__main__":
    app.run("127.0.0.1", int(sys.argv[1]), threaded=True)
