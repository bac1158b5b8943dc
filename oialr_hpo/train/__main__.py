from oialr_hpo.train import main

if __name__ == "__main__":
    main()
