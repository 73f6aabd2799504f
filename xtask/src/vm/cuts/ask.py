# Asks the site through the ingress, over and over: a line with the time at which each request began (microseconds since the boot) and
# what became of it.
import http.client
import time

while True:
    began = time.monotonic_ns() // 1000
    try:
        connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=60)
        connection.request("POST", "/site/check", "Teh server")
        answer = connection.getresponse()
        told = str(answer.status)
        if answer.status != 200:
            told += ":" + "_".join(answer.read(300).decode(errors="replace").split())
        connection.close()
    except OSError as error:
        told = type(error).__name__
    except http.client.HTTPException as error:
        told = type(error).__name__
    print(began, told)
    time.sleep(0.05)
