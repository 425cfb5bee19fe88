# Two stages: a static binary, and nothing else but the system's CA certificates and a user.
FROM golang:1.26-trixie AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
# With .git, from which `walferry version` knows what it is.
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o /walferry ./cmd/walferry

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /walferry /walferry
# The image's nonroot by number, so that an orchestrator can see that it is not root.
USER 65532:65532
EXPOSE 9630
ENTRYPOINT ["/walferry"]
