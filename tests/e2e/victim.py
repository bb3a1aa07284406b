"""A coordinator that is asked by bare HTTP for what it must refuse."""

import json
from typing import Any

from consilium.wire.requests import Problem
from e2e import studies
from e2e.coordinator import GRANT, Coordinator, Party

Told = tuple[int, Problem]


class Victim:
    """A coordinator with one site, asked by bare HTTP."""

    def __init__(self, coordinator: Coordinator) -> None:
        self.coordinator = coordinator
        self.pool = coordinator.pool()
        self.site, self.admin = coordinator.join("north"), coordinator.admin
        self.plan = studies.submit(self.admin, studies.study("heart"))
        self.tokens = {party.name: party.token() for party in (self.site, self.admin)}

    def ask(self, method: str, path: str, body: Any = None, *, by: Party | None = None, **headers: str) -> Told:
        """One request that must be refused: status and Problem."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if by is not None:
            named["Authorization"] = f"Bearer {self.tokens[by.name]}"
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        told = self.pool.request(method, self.coordinator.url + path, body=data, headers=named)
        assert 400 <= told.status < 500, (told.status, told.data[:500])
        problem = Problem.model_validate_json(told.data)
        assert problem.message and "\n" not in problem.message
        return told.status, problem

    def token(self, assertion: str) -> Told:
        """Ask for a site's token."""
        body = "&".join(f"{name}={value}" for name, value in (GRANT | {"client_assertion": assertion}).items())
        return self.ask("POST", "/v1/token", body.encode())
